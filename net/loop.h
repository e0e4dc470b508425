// An event loop: one thread, one Asio io_context, and a queue of deadlines.
#ifndef HOTLINE_NET_LOOP_H_
#define HOTLINE_NET_LOOP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "base/time.h"
#include "net/deadline_queue.h"
#include "net/socket_watch.h"

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace hotline::net {

// Thread safety: Post, RunAt, Cancel, RunsHere and lag from any thread; the
// rest as they say.
class Loop {
 public:
  using Work = absl::AnyInvocable<void()>;
  using Deadline = DeadlineQueue::Token;
  static constexpr size_t kScratchBytes = 64 << 10;

  // `index`: its number among the process's loops.
  explicit Loop(uint16_t index = 0);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  uint16_t index() const { return index_; }

  void Start();

  // Lets the thread end once nothing is left to do; deadlines are dropped.
  // Called on the loop.
  void Finish();
  // Waits for the thread, and then does here what was posted too late for it.
  void Join();

  // Does `work` soon, on the loop's thread; in the order of posting.
  void Post(Work work);

  // Does `work` on the loop's thread at `when` or soon after. Wakes the loop
  // only if that is earlier than everything it waits for already.
  Deadline RunAt(Instant when, Work work);

  // Forgets work that is not due any more, and what it holds. Nothing happens
  // when it has been done, or is about to be.
  void Cancel(const Deadline& deadline);

  bool RunsHere() const;

  // Work that waits for its time.
  size_t deadlines() const;

  // How late the loop has been of late, or is now; halves every second.
  Duration lag(Instant now) const;

  boost::asio::io_context& io();
  // On the loop only.
  SocketWatch& sockets() { return sockets_; }

  // Buffers to read into, for the length of one event; on the loop only.
  char* scratch() { return scratch_.get(); }
  char* plain_scratch() { return scratch_.get() + kScratchBytes; }

 private:
  struct Asio;

  void Arm(Instant when);
  void OnTimer();
  void NoteLag(Duration lag, Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const uint16_t index_;
  const std::unique_ptr<Asio> asio_;
  SocketWatch sockets_;
  const std::unique_ptr<char[]> scratch_;
  std::thread thread_;

  mutable Mutex mu_;
  DeadlineQueue deadlines_ ABSL_GUARDED_BY(mu_);
  // What the timer is set to, or will be by a Post that is under way.
  Instant armed_ ABSL_GUARDED_BY(mu_) = kNever;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  Duration lag_ ABSL_GUARDED_BY(mu_){0};
  Instant lag_at_ ABSL_GUARDED_BY(mu_){};
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_LOOP_H_
