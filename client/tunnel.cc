#include "client/tunnel.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <utility>

#include "client/broker_client.h"
#include "client/channel.h"
#include "client/status.h"

namespace hotline::client {
namespace {

// Less than the limit of one message.
constexpr size_t kMaxDataBytes = 256 << 10;

using Stream = grpc::ClientReaderWriter<v1::TunnelRequest, v1::TunnelResponse>;

class GrpcTunnel final : public Tunnel {
 public:
  explicit GrpcTunnel(std::shared_ptr<Channel> channel)
      : channel_(std::move(channel)) {}

  ~GrpcTunnel() override {
    if (stream_ == nullptr || status_.has_value()) return;
    context_.TryCancel();
    Finish().status().IgnoreError();
  }

  // Must be called first, once.
  absl::Status Open(const v1::TunnelOpen& open, const CallOptions& options) {
    channel_->AwaitConnection(options);
    Channel::PrepareStream(context_, options);
    stream_ = channel_->broker().Tunnel(&context_);
    v1::TunnelRequest request;
    *request.mutable_open() = open;
    stream_->Write(request);
    v1::TunnelResponse first;
    if (stream_->Read(&first) && first.has_opened()) {
      opened_ = std::move(*first.mutable_opened());
      return absl::OkStatus();
    }
    return Finish().status();
  }

  const v1::TunnelOpened& opened() const override { return opened_; }

  bool Write(std::string_view data) override {
    while (!data.empty()) {
      const std::string_view piece = data.substr(0, kMaxDataBytes);
      data.remove_prefix(piece.size());
      v1::TunnelRequest request;
      request.set_data(piece.data(), piece.size());
      if (!stream_->Write(request)) return false;
    }
    return true;
  }

  void CloseWrite() override { stream_->WritesDone(); }

  std::optional<std::string> Read() override {
    v1::TunnelResponse response;
    while (!ended_ && Next(&response)) {
      if (response.data().empty()) continue;
      return std::move(*response.mutable_data());
    }
    return std::nullopt;
  }

  absl::StatusOr<v1::TunnelReceipt> Finish() override {
    v1::TunnelResponse response;
    while (Next(&response)) {
    }
    if (!status_.has_value()) {
      const grpc::Status status = stream_->Finish();
      status_ = MakeStatus(status.error_code(), status.error_message(),
                           status.error_details());
    }
    if (!status_->ok()) return *status_;
    return receipt_;
  }

  void Cancel() override { context_.TryCancel(); }

 private:
  // Reads the broker's next message. False: there is none.
  bool Next(v1::TunnelResponse* response) {
    if (over_) return false;
    if (!stream_->Read(response)) {
      ended_ = over_ = true;
      return false;
    }
    if (response->has_end()) ended_ = true;
    if (response->has_receipt()) {
      ended_ = true;
      receipt_ = std::move(*response->mutable_receipt());
    }
    return true;
  }

  const std::shared_ptr<Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  v1::TunnelOpened opened_;
  v1::TunnelReceipt receipt_;
  bool ended_ = false;  // The upstream has ended its side.
  bool over_ = false;   // The broker has ended the stream.
  std::optional<absl::Status> status_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tunnel>> BrokerClient::OpenTunnel(
    const v1::TunnelOpen& open, CallOptions options) {
  auto tunnel = std::make_unique<GrpcTunnel>(channel_);
  if (absl::Status status = tunnel->Open(open, options); !status.ok()) {
    return status;
  }
  return tunnel;
}

}  // namespace hotline::client
