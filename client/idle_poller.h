// Lets a channel notice what happens to its connection while no call runs.
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

// A deadline for gRPC, on the monotonic clock, as ours are.
gpr_timespec InFuture(Duration length);

// gRPC's sockets are read, and its attempts to connect carried on, by the calls
// that wait for an answer. Without one it looks every five seconds: for so long
// a channel may believe in a connection whose broker has gone, and sends the
// next request there. A thread looks five times a second, and all the time
// while a connection is being made.
//
// StartOnce may be called from any thread.
class IdlePoller {
 public:
  explicit IdlePoller(std::shared_ptr<grpc::Channel> channel);
  // Takes a tenth of a second at most.
  ~IdlePoller();
  IdlePoller(const IdlePoller&) = delete;
  IdlePoller& operator=(const IdlePoller&) = delete;

  // Nothing runs before the first call is made.
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
