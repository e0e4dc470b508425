// One Session stream over gRPC. Internal to the client library.
#ifndef HOTLINE_CLIENT_SESSION_STREAM_H_
#define HOTLINE_CLIENT_SESSION_STREAM_H_

#include <grpcpp/client_context.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "google/protobuf/arena.h"
#include "hotline/v1/broker.grpc.pb.h"

namespace hotline::client {

class SessionCore;

// Deletes itself when gRPC is done with it, after notifying the core. It may be
// written to until the core has called RemoveHold.
class SessionStream final
    : public grpc::ClientBidiReactor<v1::SessionRequest, v1::SessionResponse> {
 public:
  using Batch = std::vector<std::shared_ptr<v1::SessionItem>>;

  explicit SessionStream(std::shared_ptr<SessionCore> core);

  // `wait`: waits for a connection without limit; otherwise it fails if there
  // is none.
  void Open(v1::Broker::Stub* stub, bool wait);
  // One at a time; the core's OnWritten allows the next.
  void Write(Batch batch);
  void Cancel() { context_.TryCancel(); }

  // Owned by the core, under its lock: the number of threads about to use the
  // stream; whether it waits for a connection, whether that took too long,
  // whether it was ever open, whether it has ended.
  int users = 0;
  bool waits = false;
  bool gave_up = false;
  bool opened = false;
  bool ended = false;

 private:
  void Read();
  void ReleaseBatch();

  void OnReadInitialMetadataDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  const std::shared_ptr<SessionCore> core_;
  grpc::ClientContext context_;
  v1::SessionRequest request_;
  Batch batch_;  // The items that request_ points to.
  google::protobuf::Arena arena_;
  v1::SessionResponse* response_ = nullptr;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_SESSION_STREAM_H_
