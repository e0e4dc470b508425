#include "tests/conformance/service.h"

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "conformance.pb.h"
#include "server/broker/error.h"
#include "server/front/caller_connection.h"
#include "server/front/front_loop.h"
#include "server/front/unary_call.h"

namespace hotline::conformance {
namespace {

using server::CallOrigin;
using server::ErrorPtr;
using server::GrpcEncoding;
using server::PlainError;
using server::ServerCall;
using server::UnaryCall;

std::atomic<int64_t> running_calls{0};
std::atomic<int64_t> cancelled_calls{0};

// A member of each call that is counted.
class Tally {
 public:
  Tally() { ++running_calls; }
  ~Tally() { --running_calls; }
  Tally(const Tally&) = delete;
  Tally& operator=(const Tally&) = delete;

  void OnStreamGone(net::StreamEnd end) const {
    if (end != net::StreamEnd::kComplete) ++cancelled_calls;
  }
};

constexpr size_t kPeriod = 251;

std::string MakeBody(size_t size) {
  std::string body(size, '\0');
  for (size_t i = 0; i < size; ++i) body[i] = static_cast<char>(i % kPeriod);
  return body;
}

// The error that `ask` asks for, or why it is broken.
ErrorPtr ErrorFor(const Ask& ask) {
  if (ask.body() != MakeBody(ask.body().size())) {
    return PlainError(absl::StatusCode::kDataLoss, "the body has changed");
  }
  if (ask.status() == 0) return nullptr;
  if (ask.details()) return server::MakeError("BAD_MESSAGE", ask.status_text());
  return PlainError(static_cast<absl::StatusCode>(ask.status()),
                    ask.status_text());
}

std::string NameOf(GrpcEncoding encoding) {
  constexpr std::array<const char*, 3> kNames = {"identity", "gzip", "deflate"};
  return kNames[static_cast<size_t>(encoding)];
}

class NothingCall final : public UnaryCall<Empty, Empty> {
 public:
  explicit NothingCall(const CallOrigin& origin)
      : UnaryCall(std::nullopt, origin) {}

 private:
  void Start() override { FinishWith(*response()); }
  void OnStreamGone(net::StreamEnd end) override { tally_.OnStreamGone(end); }

  const Tally tally_;
};

class CountCall final : public UnaryCall<Empty, Counts> {
 public:
  explicit CountCall(const CallOrigin& origin)
      : UnaryCall(std::nullopt, origin) {}

 private:
  void Start() override {
    response()->set_running(running_calls);
    response()->set_cancelled(cancelled_calls);
    FinishWith(*response());
  }
};

class EchoCall final : public UnaryCall<Ask, Answer> {
 public:
  explicit EchoCall(const CallOrigin& origin)
      : UnaryCall(std::nullopt, origin), encoding_(origin.request.encoding) {}

 private:
  void Start() override {
    if (ErrorPtr error = ErrorFor(request())) return Finish(std::move(error));
    if (request().delay_ms() == 0) return Respond();
    BeginRun();
    ArmDeadline();
    const std::chrono::milliseconds delay(request().delay_ms());
    timer_ = home().loop().RunAt(SaturatingAdd(MonotonicNow(), delay), [this] {
      Respond();
      EndRun(nullptr);
    });
  }

  void Respond() {
    if (request().sizes_size() > 0) {
      response()->set_body(MakeBody(request().sizes(0)));
    }
    response()->set_received_bytes(request().body().size());
    response()->set_encoding(NameOf(encoding_));
    FinishWith(*response());
  }

  void CancelRun() override {
    home().loop().Cancel(timer_);
    EndRun(PlainError(absl::StatusCode::kCancelled, "cancelled"));
  }
  void OnStreamGone(net::StreamEnd end) override { tally_.OnStreamGone(end); }

  const Tally tally_;
  const GrpcEncoding encoding_;
  net::Loop::Deadline timer_;
};

// All three kinds of streams.
class StreamCall final : public ServerCall {
 public:
  enum class Kind : uint8_t { kServer, kClient, kDuplex };

  StreamCall(Kind kind, const CallOrigin& origin)
      : ServerCall(origin, std::nullopt), kind_(kind) {
    answer_.set_encoding(NameOf(origin.request.encoding));
    ArmDeadline();
    ReadNext();
  }

  void OnSendable() override { Continue(); }

 private:
  void OnMessage(std::string_view message) override {
    Ask ask;
    ErrorPtr error = Parse(message, &ask);
    if (error == nullptr) error = ErrorFor(ask);
    if (error == nullptr && kind_ == Kind::kServer && asked_) {
      error = PlainError(absl::StatusCode::kUnimplemented, "two requests");
    }
    if (error != nullptr) return End(std::move(error));
    asked_ = true;
    answer_.set_received_bytes(answer_.received_bytes() + ask.body().size());
    if (kind_ != Kind::kClient) {
      sizes_.insert(sizes_.end(), ask.sizes().begin(), ask.sizes().end());
    }
    Continue();
  }

  // Sends what is asked for, then reads on.
  void Continue() {
    while (!sizes_.empty()) {
      answer_.set_body(MakeBody(sizes_.front()));
      sizes_.pop_front();
      if (Send(answer_) > 0) return;  // OnSendable follows.
    }
    ReadNext();
  }

  void OnHalfClose() override {
    if (kind_ == Kind::kClient) Send(answer_);
    Finish(nullptr);
  }
  void CancelRun() override {}
  void OnStreamGone(net::StreamEnd end) override { tally_.OnStreamGone(end); }

  const Tally tally_;
  const Kind kind_;
  bool asked_ = false;
  std::deque<uint32_t> sizes_;
  Answer answer_;
};

// Answers by the session's own means: the product sends no metadata.
class MetadataCall final : public UnaryCall<Ask, Answer> {
 public:
  explicit MetadataCall(const CallOrigin& origin)
      : UnaryCall(std::nullopt, origin) {
    for (const net::HeaderField& field : origin.fields) {
      metadata_.emplace_back(field.name, field.value);
    }
  }

 private:
  void Start() override {
    Fields head(server::AnswerHead().begin(), server::AnswerHead().end());
    AddTo(&head, "head-");
    const server::GrpcTrailers status(absl::StatusCode::kOk, "");
    Fields trailers(status.fields().begin(), status.fields().end());
    AddTo(&trailers, "trail-");
    const std::string body = response()->SerializeAsString();
    const server::MessagePrefix prefix = server::MakeMessagePrefix(body.size());
    net::ServerSession& session = connection()->session();
    session.SubmitHeaders(stream(), head, /*end=*/false);
    session.SubmitData(stream(), {prefix.data(), prefix.size()}, body);
    session.SubmitTrailers(stream(), trailers);
    connection()->Touch();
  }
  void OnStreamGone(net::StreamEnd end) override { tally_.OnStreamGone(end); }

  using Fields = std::vector<net::HeaderField>;
  void AddTo(Fields* fields, std::string_view prefix) const {
    for (const auto& [name, value] : metadata_) {
      if (name.starts_with(prefix)) fields->push_back({name, value});
    }
  }

  const Tally tally_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

}  // namespace

ServerCall* NewCall(const CallOrigin& origin) {
  if (origin.request.service != "hotline.conformance.Conformance") {
    return nullptr;
  }
  using Kind = StreamCall::Kind;
  const std::string_view method = origin.request.method;
  if (method == "Nothing") return new NothingCall(origin);
  if (method == "Unary") return new EchoCall(origin);
  if (method == "ServerStream") return new StreamCall(Kind::kServer, origin);
  if (method == "ClientStream") return new StreamCall(Kind::kClient, origin);
  if (method == "Duplex") return new StreamCall(Kind::kDuplex, origin);
  if (method == "Metadata") return new MetadataCall(origin);
  if (method == "Count") return new CountCall(origin);
  return nullptr;
}

}  // namespace hotline::conformance
