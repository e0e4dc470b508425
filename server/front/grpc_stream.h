// ExecuteStream over gRPC: a reactor that only translates.
#ifndef HOTLINE_SERVER_FRONT_GRPC_STREAM_H_
#define HOTLINE_SERVER_FRONT_GRPC_STREAM_H_

#include <memory>

#include "grpcpp/support/server_callback.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"

namespace hotline::server {

// Lives from the RPC's arrival until gRPC is done with it, and deletes itself.
//
// gRPC says the same of a caller that has closed its side and of one that broke
// off: nothing more can be read. But then writing fails, too; so the end of a
// request counts only when something was sent after it: the initial metadata,
// or, when an answer has begun by then, a message that says nothing.
class StreamReactor final
    : public grpc::ServerBidiReactor<v1::ExecuteStreamRequest,
                                     v1::ExecuteStreamResponse>,
      private StreamPeer {
 public:
  explicit StreamReactor(RpcMetrics* metrics);

  // Once.
  void Run(Broker* broker, CallContext context);

 private:
  // StreamPeer:
  void Read() override { StartRead(&request_); }
  void Write(v1::ExecuteStreamResponse message) override;
  void Confirm() override;
  void OnComplete(ErrorPtr error) override;

  // grpc::ServerBidiReactor:
  void OnReadDone(bool ok) override { call_->OnRead(ok ? &request_ : nullptr); }
  void OnWriteDone(bool ok) override { OnSent(ok); }
  void OnSendInitialMetadataDone(bool ok) override { OnSent(ok); }
  void OnCancel() override { call_->AsCall()->Cancel(); }
  void OnDone() override { delete this; }

  void OnSent(bool ok);

  RpcMetrics* const metrics_;
  const Instant start_;
  std::shared_ptr<StreamedCall> call_;
  v1::ExecuteStreamRequest request_;
  v1::ExecuteStreamResponse response_;
  v1::ExecuteStreamResponse last_;
  bool has_sent_ = false;
  bool confirming_ = false;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_GRPC_STREAM_H_
