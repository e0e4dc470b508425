// gRPC's C++ client: cc_client TRANSPORT ADDRESS [CA CERT KEY].
//
// Prints "pass CASE" or "fail CASE: why" for each case.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <deque>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "conformance.grpc.pb.h"

namespace hotline::conformance {
namespace {

using grpc::Status;
using grpc::StatusCode;

const std::vector<uint32_t> kSizes = {31415, 9, 2653, 58979};
const std::string kSpecialText = "\t\n100 % é \r\n ☺ 😈\t\n";

std::string MakeBody(size_t size) {
  std::string body(size, '\0');
  for (size_t i = 0; i < size; ++i) body[i] = static_cast<char>(i % 251);
  return body;
}

Ask MakeAsk(size_t size, const std::vector<uint32_t>& sizes = {}) {
  Ask ask;
  ask.set_body(MakeBody(size));
  ask.mutable_sizes()->Add(sizes.begin(), sizes.end());
  return ask;
}

// The case that runs. Its first failure counts.
std::string failure;

void Check(bool holds, const std::string& what) {
  if (!holds && failure.empty()) failure = what;
}
void CheckStatus(const Status& status, StatusCode code,
                 const std::string& text) {
  Check(status.error_code() == code && status.error_message() == text,
        "status " + std::to_string(status.error_code()) + ": " +
            status.error_message());
}
void CheckCode(const Status& status, StatusCode code) {
  CheckStatus(status, code, status.error_message());
}
void CheckOk(const Status& status) { CheckStatus(status, StatusCode::OK, ""); }

// No case takes long; a call that hangs fails.
struct Context : grpc::ClientContext {
  Context() {
    set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  }
};

class Cases {
 public:
  explicit Cases(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(Conformance::NewStub(channel)),
        absent_(Absent::NewStub(channel)) {}

  void EmptyUnary() {
    Context context;
    Empty answer;
    CheckOk(stub_->Nothing(&context, {}, &answer));
  }

  void LargeUnary() {
    const Answer answer = Unary(MakeAsk(271828, {314159}));
    Check(answer.body() == MakeBody(314159), "the answer's body");
    Check(answer.received_bytes() == 271828, "the request's body");
  }

  void ManyCalls() {
    constexpr uint32_t kCalls = 100;
    struct Call {
      Context context;
      Answer answer;
      Status status;
      std::unique_ptr<grpc::ClientAsyncResponseReader<Answer>> reader;
    };
    grpc::CompletionQueue queue;
    std::deque<Call> calls(kCalls);
    for (uint32_t i = 0; i < kCalls; ++i) {
      Call& call = calls[i];
      call.reader =
          stub_->AsyncUnary(&call.context, MakeAsk(i, {1000 + i}), &queue);
      call.reader->Finish(&call.answer, &call.status, &call);
    }
    void* tag = nullptr;
    bool ok = false;
    for (uint32_t i = 0; i < kCalls; ++i) Check(queue.Next(&tag, &ok), "queue");
    for (uint32_t i = 0; i < kCalls; ++i) {
      CheckOk(calls[i].status);
      Check(calls[i].answer.received_bytes() == i, "the request's body");
      Check(calls[i].answer.body() == MakeBody(1000 + i), "the answer's body");
    }
  }

  void ClientStream() {
    Context context;
    Answer answer;
    const auto stream = stub_->ClientStream(&context, &answer);
    for (uint32_t size : kSizes) Check(stream->Write(MakeAsk(size)), "write");
    stream->WritesDone();
    CheckOk(stream->Finish());
    Check(answer.received_bytes() ==
              std::accumulate(kSizes.begin(), kSizes.end(), 0u),
          "the requests' bodies");
  }

  void ServerStream() {
    Context context;
    const auto stream = stub_->ServerStream(&context, MakeAsk(0, kSizes));
    Answer answer;
    for (uint32_t size : kSizes) {
      Check(stream->Read(&answer), "read");
      Check(answer.body() == MakeBody(size), "an answer's body");
    }
    Check(!stream->Read(&answer), "too many answers");
    CheckOk(stream->Finish());
  }

  void PingPong() {
    Context context;
    const auto stream = stub_->Duplex(&context);
    Answer answer;
    uint64_t received = 0;
    for (uint32_t size : kSizes) {
      received += size;
      Check(stream->Write(MakeAsk(size, {size})), "write");
      Check(stream->Read(&answer), "read");
      Check(answer.body() == MakeBody(size), "an answer's body");
      Check(answer.received_bytes() == received, "a request's body");
    }
    stream->WritesDone();
    Check(!stream->Read(&answer), "too many answers");
    CheckOk(stream->Finish());
  }

  // More in each direction than a window holds.
  void Duplex() {
    constexpr int kAsks = 50;
    Context context;
    const auto stream = stub_->Duplex(&context);
    std::thread writer([&] {
      const Ask ask = MakeAsk(100000, {50000, 50000});
      for (int i = 0; i < kAsks && stream->Write(ask); ++i) {
      }
      stream->WritesDone();
    });
    const std::string expected = MakeBody(50000);
    Answer answer;
    int answers = 0;
    while (stream->Read(&answer)) {
      ++answers;
      Check(answer.body() == expected, "an answer's body");
    }
    writer.join();
    CheckOk(stream->Finish());
    Check(answers == 2 * kAsks, std::to_string(answers) + " answers");
    Check(answer.received_bytes() == 5000000, "the requests' bodies");
  }

  void EmptyStream() {
    Context context;
    const auto stream = stub_->Duplex(&context);
    stream->WritesDone();
    Answer answer;
    Check(!stream->Read(&answer), "an answer");
    CheckOk(stream->Finish());
  }

  void CancelAfterBegin() {
    Context context;
    Answer answer;
    const auto stream = stub_->ClientStream(&context, &answer);
    Counts counts;
    do {
      Context counting;
      CheckOk(stub_->Count(&counting, {}, &counts));
    } while (counts.running() == 0 && failure.empty());
    context.TryCancel();
    CheckCode(stream->Finish(), StatusCode::CANCELLED);
  }

  void CancelAfterFirstAnswer() {
    Context context;
    const auto stream = stub_->Duplex(&context);
    Answer answer;
    Check(stream->Write(MakeAsk(1, {1})), "write");
    Check(stream->Read(&answer), "read");
    context.TryCancel();
    Check(!stream->Read(&answer), "an answer after the cancellation");
    CheckCode(stream->Finish(), StatusCode::CANCELLED);
  }

  void Deadline() {
    Context context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(500));
    Ask ask;
    ask.set_delay_ms(60000);
    Answer answer;
    CheckCode(stub_->Unary(&context, ask, &answer),
              StatusCode::DEADLINE_EXCEEDED);
  }

  void StatusCodes() {
    for (int code = 1; code <= StatusCode::UNAUTHENTICATED; ++code) {
      const std::string text = "text " + std::to_string(code);
      CheckStatus(Refusal(MakeRefused(code, text)),
                  static_cast<StatusCode>(code), text);
    }
  }

  void StatusText() {
    CheckStatus(Refusal(MakeRefused(StatusCode::UNKNOWN, kSpecialText)),
                StatusCode::UNKNOWN, kSpecialText);
  }

  void StatusBeforeHalfClose() {
    Context context;
    const auto stream = stub_->Duplex(&context);
    Answer answer;
    Check(stream->Write(MakeAsk(1, {1})), "write");
    Check(stream->Read(&answer), "read");
    stream->Write(MakeRefused(StatusCode::FAILED_PRECONDITION, "enough"));
    Check(!stream->Read(&answer), "an answer after the status");
    CheckStatus(stream->Finish(), StatusCode::FAILED_PRECONDITION, "enough");
  }

  void StatusDetails() {
    Ask ask = MakeRefused(StatusCode::INVALID_ARGUMENT, "bad");
    ask.set_details(true);
    const Status status = Refusal(ask);
    CheckCode(status, StatusCode::INVALID_ARGUMENT);
    Check(status.error_details().find("BAD_MESSAGE") != std::string::npos,
          "no details");
  }

  void UnknownMethod() {
    Context context;
    Empty answer;
    CheckCode(stub_->Unserved(&context, {}, &answer),
              StatusCode::UNIMPLEMENTED);
  }

  void UnknownService() {
    Context context;
    Empty answer;
    CheckCode(absent_->Nothing(&context, {}, &answer),
              StatusCode::UNIMPLEMENTED);
  }

  void Metadata() {
    std::string binary;
    for (int i = 0; i < 256; ++i) binary.push_back(static_cast<char>(i));
    const std::multimap<std::string, std::string> fields = {
        {"text", "a b, c"},
        {"two", "1"},
        {"two", "2"},
        {"bytes-bin", binary},
        {"none-bin", ""}};
    Context context;
    for (const auto& [name, value] : fields) {
      context.AddMetadata("head-" + name, value);
      context.AddMetadata("trail-" + name, value);
    }
    Answer answer;
    CheckOk(stub_->Metadata(&context, MakeAsk(0), &answer));
    CheckMetadata(context.GetServerInitialMetadata(), "head-", fields);
    CheckMetadata(context.GetServerTrailingMetadata(), "trail-", fields);
  }

  void Gzip() { Compressed(GRPC_COMPRESS_GZIP, "gzip"); }
  void Deflate() { Compressed(GRPC_COMPRESS_DEFLATE, "deflate"); }

  void OversizedMessage() {
    CheckCode(Refusal(MakeAsk(9 << 20)), StatusCode::RESOURCE_EXHAUSTED);
    EmptyUnary();
  }

  void OversizedMetadata() {
    Context context;
    context.AddMetadata("large", std::string(20480, 'x'));
    Empty answer;
    CheckCode(stub_->Nothing(&context, {}, &answer),
              StatusCode::RESOURCE_EXHAUSTED);
    EmptyUnary();
  }

 private:
  static Ask MakeRefused(int code, const std::string& text) {
    Ask ask;
    ask.set_status(code);
    ask.set_status_text(text);
    return ask;
  }

  Answer Unary(const Ask& ask) {
    Context context;
    Answer answer;
    CheckOk(stub_->Unary(&context, ask, &answer));
    return answer;
  }
  Status Refusal(const Ask& ask) {
    Context context;
    Answer answer;
    return stub_->Unary(&context, ask, &answer);
  }

  static void CheckMetadata(
      const std::multimap<grpc::string_ref, grpc::string_ref>& seen,
      const std::string& prefix,
      const std::multimap<std::string, std::string>& fields) {
    std::multimap<std::string, std::string> found;
    for (const auto& [name, value] : seen) {
      if (!name.starts_with(prefix)) continue;
      found.emplace(std::string(name.begin() + prefix.size(), name.end()),
                    std::string(value.begin(), value.end()));
    }
    Check(found == fields, "metadata of " + prefix);
  }

  void Compressed(grpc_compression_algorithm algorithm,
                  const std::string& name) {
    Context context;
    context.set_compression_algorithm(algorithm);
    Answer answer;
    CheckOk(stub_->Unary(&context, MakeAsk(271828, {314159}), &answer));
    Check(answer.encoding() == name, "encoding " + answer.encoding());
    Check(answer.received_bytes() == 271828, "the request's body");
    Check(answer.body() == MakeBody(314159), "the answer's body");
    Context streaming;
    streaming.set_compression_algorithm(algorithm);
    const auto stream = stub_->Duplex(&streaming);
    for (uint32_t size : kSizes) {
      Check(stream->Write(MakeAsk(size, {size})), "write");
      Check(stream->Read(&answer), "read");
      Check(answer.encoding() == name, "encoding " + answer.encoding());
      Check(answer.body() == MakeBody(size), "an answer's body");
    }
    stream->WritesDone();
    CheckOk(stream->Finish());
  }

  const std::unique_ptr<Conformance::Stub> stub_;
  const std::unique_ptr<Absent::Stub> absent_;
};

const std::pair<const char*, void (Cases::*)()> kCases[] = {
    {"empty_unary", &Cases::EmptyUnary},
    {"large_unary", &Cases::LargeUnary},
    {"many_calls", &Cases::ManyCalls},
    {"client_stream", &Cases::ClientStream},
    {"server_stream", &Cases::ServerStream},
    {"ping_pong", &Cases::PingPong},
    {"duplex", &Cases::Duplex},
    {"empty_stream", &Cases::EmptyStream},
    {"cancel_after_begin", &Cases::CancelAfterBegin},
    {"cancel_after_first_answer", &Cases::CancelAfterFirstAnswer},
    {"deadline", &Cases::Deadline},
    {"status_codes", &Cases::StatusCodes},
    {"status_text", &Cases::StatusText},
    {"status_before_half_close", &Cases::StatusBeforeHalfClose},
    {"status_details", &Cases::StatusDetails},
    {"unknown_method", &Cases::UnknownMethod},
    {"unknown_service", &Cases::UnknownService},
    {"metadata", &Cases::Metadata},
    {"gzip", &Cases::Gzip},
    {"deflate", &Cases::Deflate},
    {"oversized_message", &Cases::OversizedMessage},
    {"oversized_metadata", &Cases::OversizedMetadata},
};

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::shared_ptr<grpc::Channel> Connect(int argc, char** argv) {
  std::shared_ptr<grpc::ChannelCredentials> credentials =
      grpc::InsecureChannelCredentials();
  if (argc == 6) {
    credentials = grpc::SslCredentials({.pem_root_certs = ReadFile(argv[3]),
                                        .pem_private_key = ReadFile(argv[5]),
                                        .pem_cert_chain = ReadFile(argv[4])});
  }
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(argv[2], credentials, arguments);
}

int Run(int argc, char** argv) {
  Cases cases(Connect(argc, argv));
  int failed = 0;
  for (const auto& [name, run] : kCases) {
    failure.clear();
    (cases.*run)();
    if (failure.empty()) {
      std::cout << "pass " << name << std::endl;
    } else {
      std::cout << "fail " << name << ": " << failure << std::endl;
      ++failed;
    }
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hotline::conformance

int main(int argc, char** argv) {
  if (argc != 3 && argc != 6) {
    std::cerr << "cc_client TRANSPORT ADDRESS [CA CERT KEY]\n";
    return 2;
  }
  return hotline::conformance::Run(argc, argv);
}
