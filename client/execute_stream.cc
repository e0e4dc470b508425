#include "client/execute_stream.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "client/channel.h"

namespace hotline::client {
namespace {

// Size of one message; longer pieces are split.
constexpr size_t kMostPiece = 256 << 10;

}  // namespace

struct ExecuteStream::Rpc {
  std::shared_ptr<Channel> channel;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ExecuteStreamRequest,
                                           v1::ExecuteStreamResponse>>
      stream;
  // Used by the reader.
  std::optional<v1::ExecuteStreamResponseHead> head;
  std::optional<v1::ExecuteStreamResponseEnd> end;
  std::optional<absl::Status> status;  // Set once it is finished.
};

ExecuteStream::ExecuteStream(std::shared_ptr<Channel> channel,
                             const v1::ExecuteStreamHead& head,
                             const CallOptions& options)
    : rpc_(std::make_unique<Rpc>()) {
  rpc_->channel = std::move(channel);
  rpc_->channel->AwaitConnection(options);
  rpc_->channel->Prepare(rpc_->context, options);
  rpc_->stream = rpc_->channel->broker().ExecuteStream(&rpc_->context);
  v1::ExecuteStreamRequest message;
  *message.mutable_head() = head;
  rpc_->stream->Write(message);  // If it fails, the following calls fail.
}

ExecuteStream::ExecuteStream(ExecuteStream&& other) noexcept = default;

ExecuteStream& ExecuteStream::operator=(ExecuteStream&& other) noexcept {
  std::swap(rpc_, other.rpc_);
  return *this;
}

ExecuteStream::~ExecuteStream() {
  if (rpc_ == nullptr || rpc_->status.has_value()) return;
  Cancel();
  rpc_->stream->Finish();  // No caller is left to handle an error.
}

bool ExecuteStream::Send(std::string_view piece) {
  do {
    v1::ExecuteStreamRequest message;
    const size_t size = std::min(piece.size(), kMostPiece);
    message.set_body(piece.data(), size);
    piece.remove_prefix(size);
    if (!rpc_->stream->Write(message)) return false;
  } while (!piece.empty());
  return true;
}

bool ExecuteStream::EndBody() { return rpc_->stream->WritesDone(); }

bool ExecuteStream::ReadMessage(v1::ExecuteStreamResponse* message) {
  while (!rpc_->end.has_value() && !rpc_->status.has_value()) {
    if (!rpc_->stream->Read(message)) return false;
    switch (message->part_case()) {
      case v1::ExecuteStreamResponse::kHead:
        rpc_->head = std::move(*message->mutable_head());
        return true;
      case v1::ExecuteStreamResponse::kBody:
        return true;
      case v1::ExecuteStreamResponse::kEnd:
        rpc_->end = std::move(*message->mutable_end());
        return false;
      case v1::ExecuteStreamResponse::PART_NOT_SET:
        break;
    }
  }
  return false;
}

absl::StatusOr<v1::ExecuteStreamResponseHead> ExecuteStream::ReadHead() {
  v1::ExecuteStreamResponse message;
  while (!rpc_->head.has_value() && ReadMessage(&message)) {
  }
  if (rpc_->head.has_value()) return *rpc_->head;
  const auto end = Finish();
  if (!end.ok()) return end.status();
  return absl::InternalError("the broker's answer has no head");
}

bool ExecuteStream::ReadBody(std::string* piece) {
  v1::ExecuteStreamResponse message;
  while (ReadMessage(&message)) {
    if (!message.has_body()) continue;
    *piece = std::move(*message.mutable_body());
    return true;
  }
  return false;
}

absl::StatusOr<v1::ExecuteStreamResponseEnd> ExecuteStream::Finish() {
  if (!rpc_->status.has_value()) {
    v1::ExecuteStreamResponse message;
    while (ReadMessage(&message)) {
    }
    const grpc::Status status = rpc_->stream->Finish();
    rpc_->status = MakeStatus(status.error_code(), status.error_message(),
                              status.error_details());
  }
  if (!rpc_->status->ok()) return *rpc_->status;
  if (rpc_->end.has_value()) return *rpc_->end;
  return absl::InternalError("the broker's answer has no end");
}

void ExecuteStream::Cancel() { rpc_->context.TryCancel(); }

}  // namespace hotline::client
