// An event loop: one thread, one Asio io_context, and a queue of deadlines.
//
//   Loop loop;
//   loop.Start();
//   loop.Post([] { ... });                           // Soon, on the loop.
//   auto timer = loop.RunAt(now + timeout, [] { ... });
//   loop.Cancel(timer);
//   loop.Post([&] { loop.Finish(); });
//   loop.Join();
#ifndef HOTLINE_NET_LOOP_H_
#define HOTLINE_NET_LOOP_H_

#include <time.h>

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

// Thread safety: Post, RunAt, Cancel, RunsHere, deadlines, lag, turns and
// cpu_time from any thread; the others as noted.
//
// Invariants:
//   1. Work runs on the loop's thread; after the thread has ended, in Join.
//   2. Posted work runs in the order of posting; no work runs, and none is
//      destroyed, under the lock.
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

  // Lets the thread end once it has nothing left to do; deadlines are dropped.
  // On the loop.
  void Finish();
  // Waits for the thread, then runs here the work that was posted too late.
  void Join();

  // Runs `work` soon, on the loop's thread.
  void Post(Work work);

  // Runs `work` on the loop's thread at `when` or soon after. Wakes the loop
  // only if `when` is earlier than every other deadline.
  Deadline RunAt(Instant when, Work work);

  // Drops work that is no longer needed. No effect if it has run or is about
  // to.
  void Cancel(const Deadline& deadline);

  bool RunsHere() const;

  // The number of pending deadlines.
  size_t deadlines() const;

  // How late deadlines have run recently, or the earliest one is now; decays by
  // half every second.
  Duration lag(Instant now) const;

  // How often it has served sockets.
  uint64_t turns() const { return sockets_.turns(); }
  // CPU time of its thread; zero before Start and after its end.
  Duration cpu_time() const;

  boost::asio::io_context& io();
  // On the loop only.
  SocketWatch& sockets() { return sockets_; }

  // Read buffers, valid during one event. On the loop only.
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
  // Of the thread's CPU time, while it runs.
  std::atomic<clockid_t> cpu_clock_{-1};

  mutable Mutex mu_;
  DeadlineQueue deadlines_ ABSL_GUARDED_BY(mu_);
  // The time that the timer is set to, or will be by a pending Post.
  Instant armed_ ABSL_GUARDED_BY(mu_) = kNever;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  Duration lag_ ABSL_GUARDED_BY(mu_){0};
  Instant lag_at_ ABSL_GUARDED_BY(mu_){};
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_LOOP_H_
