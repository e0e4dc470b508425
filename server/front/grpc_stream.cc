#include "server/front/grpc_stream.h"

#include <utility>

#include "server/front/status.h"

namespace hotline::server {

StreamReactor::StreamReactor(RpcMetrics* metrics)
    : metrics_(metrics), start_(MonotonicNow()) {}

void StreamReactor::Run(Broker* broker, CallContext context) {
  call_ = broker->NewExecuteStream(&last_, std::move(context), this);
  call_->AsCall()->Start();
}

void StreamReactor::Write(v1::ExecuteStreamResponse message) {
  has_sent_ = true;
  response_ = std::move(message);
  StartWrite(&response_);
}

void StreamReactor::Confirm() {
  confirming_ = true;
  if (std::exchange(has_sent_, true)) {
    response_.Clear();
    StartWrite(&response_);
  } else {
    StartSendInitialMetadata();
  }
}

void StreamReactor::OnSent(bool ok) {
  // Else the RPC is broken, and OnCancel ends the call.
  if (!ok) return;
  if (std::exchange(confirming_, false)) {
    call_->OnConfirmed();
  } else {
    call_->OnWritten();
  }
}

void StreamReactor::OnComplete(ErrorPtr error) {
  const grpc::Status status = ToStatus(error);
  metrics_->RecordRpc(RpcMethod::kExecuteStream, status.error_code(),
                      MonotonicNow() - start_);
  if (error == nullptr) {
    StartWriteAndFinish(&last_, grpc::WriteOptions(), status);
  } else {
    Finish(status);
  }
}

}  // namespace hotline::server
