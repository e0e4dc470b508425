#include "server/front/server_call.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/message_lite.h"
#include "google/rpc/status.pb.h"
#include "server/broker/http_head.h"
#include "server/front/caller_connection.h"
#include "server/front/front_loop.h"

namespace hotline::server {
namespace {

constexpr uint32_t kCancel = 8;  // HTTP/2's error code.

ErrorPtr FromStatus(const absl::Status& status) {
  return PlainError(status.code(),
                    {status.message().data(), status.message().size()});
}

// Writes a message with its prefix.
class Encoder {
 public:
  Encoder(size_t size, absl::FunctionRef<void(uint8_t*)> encode)
      : size_(size), encode_(encode), prefix_(MakeMessagePrefix(size)) {}

  size_t size() const { return prefix_.size() + size_; }
  void operator()(char* to) const {
    std::memcpy(to, prefix_.data(), prefix_.size());
    encode_(reinterpret_cast<uint8_t*>(to + prefix_.size()));
  }

 private:
  const size_t size_;
  const absl::FunctionRef<void(uint8_t*)> encode_;
  const MessagePrefix prefix_;
};

}  // namespace

ErrorPtr PlainError(absl::StatusCode code, std::string_view text) {
  auto error = std::make_unique<Error>();
  error->code = code;
  error->message = std::string(text);
  return error;
}

ServerCall::ServerCall(const CallOrigin& origin,
                       std::optional<RpcMethod> method)
    : home_(origin.connection->home()),
      connection_(origin.connection),
      stream_(origin.stream),
      method_(method),
      start_(origin.now),
      deadline_(SaturatingAdd(origin.now, origin.request.timeout)),
      reader_(origin.request.encoding, kMaxMessageBytes) {
  home_.OnCallBegun();
  context_.arrival = start_;
  context_.deadline = deadline_;
  const std::string_view trace = origin.request.traceparent;
  if (!trace.empty() && IsTraceparent(trace)) {
    context_.traceparent = std::string(trace);
  }
  context_.identity = connection_->identity();
  context_.answers = connection_->answers();
  context_.loop = home_.loop().index();
}

ServerCall::~ServerCall() { home_.OnCallGone(); }

bool ServerCall::RunsHere() const { return home_.loop().RunsHere(); }
void ServerCall::Post(net::Loop::Work work) {
  home_.loop().Post(std::move(work));
}

// Input.

void ServerCall::OnData(std::string_view bytes) {
  received_ += bytes.size();
  if (!over()) {
    reader_.Add(bytes);
    Pump();
    reader_.Keep();
  }
  Credit();
}

void ServerCall::OnEnd() {
  ended_ = true;
  Pump();
}

void ServerCall::ReadNext() {
  reading_ = true;
  Pump();
}

void ServerCall::Pump() {
  if (pumping_) return;
  const Ref keep(this);
  pumping_ = true;
  while (reading_ && !over()) {
    std::string_view message;
    const MessageReader::Result result = reader_.Next(&message);
    if (result == MessageReader::Result::kMessage) {
      reading_ = false;
      OnMessage(message);
    } else if (result == MessageReader::Result::kFailed) {
      End(FromStatus(reader_.status()));
    } else if (!ended_) {
      break;
    } else if (const absl::Status whole = reader_.Finish(); !whole.ok()) {
      End(FromStatus(whole));
    } else {
      reading_ = false;
      OnHalfClose();
    }
  }
  pumping_ = false;
  Credit();
}

ErrorPtr ServerCall::Parse(std::string_view bytes,
                           google::protobuf::MessageLite* into) {
  if (into->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return nullptr;
  }
  return MakeError("BAD_MESSAGE", absl::StrCat("the message is not a valid ",
                                               into->GetTypeName()));
}

// Flow control.

void ServerCall::Credit() {
  // A message is granted more than its stream's window by half windows.
  const size_t step =
      static_cast<size_t>(home_.parts().http2.stream_window_bytes) / 2;
  if (stream_ == nullptr) return;
  uint64_t due = received_ - (over() ? 0 : reader_.unread_bytes());
  if (due >= credited_) LeaveAssembly();
  const size_t partial = reader_.buffered_bytes();
  const uint64_t covered = std::max(due, credited_);
  if (!over() && reading_ && due + partial >= covered + step) {
    const size_t more = due + partial - covered;
    if (connection_->assembly().Take(this, more)) {
      assembled_ += more;
      due += partial;
      if (!home_.AddAssembled(more)) {
        // Not ours to hold: the process has other callers.
        connection_->assembly().Leave(this, more);
        assembled_ -= more;
        ErrorPtr error =
            MakeError("OVERLOADED", "too many large messages come in at once");
        error->retry_after = std::chrono::seconds(1);
        return End(std::move(error));
      }
    }
  }
  if (due <= credited_) return;
  connection_->Consume(stream_, due - std::exchange(credited_, due));
}

void ServerCall::LeaveAssembly() {
  const size_t bytes = std::exchange(assembled_, 0);
  home_.DropAssembled(bytes);
  connection_->assembly().Leave(this, bytes);
}

// The deadline.

void ServerCall::ArmDeadline() {
  if (deadline_ == kNever || timer_ || over()) return;
  timer_ =
      home_.loop().RunAt(deadline_, [self = Ref(this)] { self->OnDeadline(); });
}

void ServerCall::DisarmDeadline() {
  if (timer_) home_.loop().Cancel(std::exchange(timer_, {}));
}

void ServerCall::OnDeadline() {
  End(PlainError(absl::StatusCode::kDeadlineExceeded,
                 ended_ ? "the call did not end by its deadline"
                        : "the request was not complete by the deadline"));
}

// The end.

void ServerCall::OnClosed(net::StreamEnd end) {
  const Ref keep(this);
  LeaveAssembly();
  DisarmDeadline();
  OnStreamGone(end);
  stream_ = nullptr;
  connection_ = nullptr;
  if (running_ && !finished_ && ending_ == nullptr) CancelRun();
  Release();
}

void ServerCall::OnCutOff() {
  if (!running_) End(DrainingError());
}

void ServerCall::End(ErrorPtr error) {
  if (over()) return;
  const Ref keep(this);
  if (!running_) return Finish(std::move(error));
  ending_ = std::move(error);
  DisarmDeadline();
  CancelRun();
}

void ServerCall::EndRun(ErrorPtr error) {
  running_ = false;
  if (ending_ != nullptr) error = std::move(ending_);
  Finish(std::move(error));
  Release();
}

void ServerCall::Record(absl::StatusCode code) {
  if (!method_.has_value()) return;
  home_.parts().metrics->RecordRpc(*method_, static_cast<int>(code),
                                   MonotonicNow() - start_);
}

void ServerCall::Finish(ErrorPtr error) {
  if (std::exchange(finished_, true)) return;
  DisarmDeadline();
  Record(error == nullptr ? absl::StatusCode::kOk : error->code);
  if (stream_ == nullptr) return;
  SendStatus(error.get());
  connection_->Touch();
  Credit();  // Whatever has come, and comes, is of no interest.
}

void ServerCall::SendStatus(const Error* error) {
  net::ServerSession& session = connection_->session();
  if (error != nullptr && stream_->waiting_bytes() > 0 &&
      (error->code == absl::StatusCode::kDeadlineExceeded ||
       error->code == absl::StatusCode::kCancelled)) {
    // The caller takes nothing, and would not take the status either.
    return session.Reset(stream_, kCancel);
  }
  std::string text;
  std::string details;
  if (error != nullptr && error->reason.empty()) {
    text = error->message;
  } else if (error != nullptr) {
    google::rpc::Status status;
    FillStatus(*error, &status);
    text = status.message();
    details = status.SerializeAsString();
  }
  const GrpcTrailers trailers(
      error == nullptr ? absl::StatusCode::kOk : error->code, text, details);
  if (headers_sent_) {
    session.SubmitTrailers(stream_, trailers.fields());
  } else if (error != nullptr) {
    session.SubmitHeaders(stream_, trailers.fields_alone(), /*end=*/true);
  } else {
    session.SubmitHeaders(stream_, AnswerHead(), /*end=*/false);
    session.SubmitTrailers(stream_, trailers.fields());
  }
}

// Output.

void ServerCall::SendHeaders() {
  if (stream_ == nullptr || finished_ || std::exchange(headers_sent_, true)) {
    return;
  }
  connection_->session().SubmitHeaders(stream_, AnswerHead(), /*end=*/false);
  connection_->Touch();
}

size_t ServerCall::Send(const google::protobuf::MessageLite& message) {
  if (stream_ == nullptr || finished_) return 0;
  SendHeaders();
  const auto encode = [&](uint8_t* to) {
    message.SerializeWithCachedSizesToArray(to);
  };
  const Encoder encoder(message.ByteSizeLong(), encode);
  const size_t waiting =
      connection_->session().SubmitData(stream_, encoder.size(), encoder);
  connection_->Touch();
  return waiting;
}

size_t ServerCall::SendEncoded(std::string_view message) {
  if (stream_ == nullptr || finished_) return 0;
  SendHeaders();
  const MessagePrefix prefix = MakeMessagePrefix(message.size());
  const size_t waiting = connection_->session().SubmitData(
      stream_, {prefix.data(), prefix.size()}, message);
  connection_->Touch();
  return waiting;
}

void ServerCall::FinishWith(const google::protobuf::MessageLite& message) {
  FinishWith(message.ByteSizeLong(),
             [&](uint8_t* to) { message.SerializeWithCachedSizesToArray(to); });
}

void ServerCall::FinishWith(size_t size,
                            absl::FunctionRef<void(uint8_t*)> encode) {
  if (std::exchange(finished_, true)) return;
  DisarmDeadline();
  Record(absl::StatusCode::kOk);
  if (stream_ == nullptr) return;
  static const GrpcTrailers* const kOk =
      new GrpcTrailers(absl::StatusCode::kOk, "");
  const Encoder encoder(size, encode);
  connection_->session().Respond(stream_, AnswerHead(), encoder.size(), encoder,
                                 kOk->fields());
  connection_->Touch();
  Credit();
}

}  // namespace hotline::server
