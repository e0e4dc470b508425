// Lets a channel notice events on its connection while no call runs.
// Internal to the client library.
#ifndef HOTLINE_CLIENT_IDLE_POLLER_H_
#define HOTLINE_CLIENT_IDLE_POLLER_H_

#include <grpc/support/time.h>
#include <grpcpp/channel.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "base/mutex.h"
#include "base/time.h"

namespace hotline::client {

// A deadline for gRPC, on the monotonic clock like Instant.
gpr_timespec InFuture(Duration length);

// gRPC reads its sockets, and continues its attempts to connect, on the threads
// of calls that wait for an answer. Without such a call it polls every five
// seconds, and until then a channel may send the next request to a broker that
// is gone. This thread polls five times a second, and continuously while a
// connection is being made.
//
// StartOnce may be called from any thread.
class IdlePoller {
 public:
  explicit IdlePoller(std::shared_ptr<grpc::Channel> channel);
  // Takes at most a tenth of a second.
  ~IdlePoller();
  IdlePoller(const IdlePoller&) = delete;
  IdlePoller& operator=(const IdlePoller&) = delete;

  // The thread starts with the first call.
  void StartOnce();

 private:
  void Run();

  const std::shared_ptr<grpc::Channel> channel_;
  std::once_flag started_;
  Mutex mu_;
  std::condition_variable changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_IDLE_POLLER_H_
