// Bounds the memory that the bodies of answers occupy between the upstream and
// a caller that reads them late or never.
//
//   AnswerMemory::Hold hold(&memory, caller);
//   if (!hold.Grow(bytes, waiter, now)) ...  // The waiter is called later.
//   hold.Offer(bytes);                       // The caller can read it now.
//   // ~Hold gives the room back.
//
// All answers share one limit. A caller (a connection, or a session) may hold
// as much as is left for others: one that does not read gets half of the limit,
// two get a third each, so there is always room for callers that read. Within a
// caller's share answers get room first come, first served.
//
// An answer asks for room (Grow) before more of it is read from the upstream.
// Without room it waits, and its upstream with it, until an answer of the same
// caller has been written out or another caller's answer has made room. A
// caller is stalled if it reads nothing for kStall while answers of its wait
// for room: those answers are refused, and so are its new calls (Admit), until
// it reads again. A caller that reads, however slowly, is never refused.
//
// Thread safety: all methods may be called from any thread. The lock is a leaf;
// waiters are called without it.
//
// Invariants:
//   1. used() exceeds the limit only by answers that never asked (AtLeast,
//      Offer: small ones), and by one answer at a time: answers of unknown
//      length take room step by step, so several could wait for each other, and
//      one of them then goes past the limit.
//   2. Each Grow that returned false is followed by one call of its waiter,
//      unless the Hold is offered or reset before.
#ifndef HOTLINE_SERVER_BROKER_ANSWER_MEMORY_H_
#define HOTLINE_SERVER_BROKER_ANSWER_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "base/time.h"

namespace hotline::server {

// Receives the end of a Grow that returned false, by one of the two methods.
// Called from any thread, without a lock held.
class AnswerWaiter {
 public:
  virtual ~AnswerWaiter() = default;
  // The answer has the room now.
  virtual void OnRoom() = 0;
  // The caller is stalled: the answer gets no room.
  virtual void OnNoRoom() = 0;
};

class AnswerMemory {
 public:
  static constexpr Duration kStall = std::chrono::seconds(1);
  static constexpr int64_t kDefaultLimit = int64_t{256} << 20;

  // Runs `work` at `when` or soon after; may drop it at shutdown.
  using RunAtFn =
      std::function<void(Instant when, absl::AnyInvocable<void()> work)>;

  class Hold;

  // A receiver of answers, shared by its calls.
  class Caller {
   public:
    // `most`: the caller's own limit, in bytes.
    explicit Caller(int64_t most = std::numeric_limits<int64_t>::max())
        : most_(most) {}

   private:
    friend class AnswerMemory;

    const int64_t most_;
    std::atomic<int64_t> held_{0};
    std::atomic<int> offered_{0};    // Answers that it can read.
    std::atomic<int64_t> took_ns_ =  // When it last read one.
        MonotonicNow().time_since_epoch().count();
    // Guarded by AnswerMemory::mu_: holds that wait, in order.
    std::deque<Hold*> waiting_;
  };
  using CallerPtr = std::shared_ptr<Caller>;

  // The room of one answer, given back by the destructor. Must not outlive the
  // AnswerMemory. Thread-compatible; Grow's waiter may be called on any thread.
  class Hold {
   public:
    Hold(AnswerMemory* memory, CallerPtr caller)
        : memory_(memory), caller_(std::move(caller)) {}
    ~Hold() { Reset(); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    const CallerPtr& caller() const { return caller_; }

    // True: the answer may take `bytes` in total. False: `waiter`, which is
    // kept alive, will be called. One Grow at a time.
    bool Grow(int64_t bytes, std::shared_ptr<AnswerWaiter> waiter, Instant now);
    // The same without waiting; false: its room is unchanged.
    bool TryGrow(int64_t bytes);
    // Raises the answer's size to `bytes`, whether there is room or not.
    void AtLeast(int64_t bytes);
    // Sets the size to `bytes`; the caller can read the answer from now on.
    // Ends a wait for room.
    void Offer(int64_t bytes);
    // The caller has read some of the answer.
    void Took(Instant now);
    // Gives all room back. Ends a wait without a call of the waiter.
    void Reset();

   private:
    friend class AnswerMemory;

    void Set(int64_t bytes);

    AnswerMemory* const memory_;
    const CallerPtr caller_;
    std::atomic<int64_t> bytes_{0};
    bool offered_ = false;
    // Guarded by AnswerMemory::mu_; of the wait.
    int64_t wanted_ = 0;
    Instant since_{};
    std::shared_ptr<AnswerWaiter> waiter_;
  };

  AnswerMemory(int64_t limit, RunAtFn run_at);
  AnswerMemory(const AnswerMemory&) = delete;
  AnswerMemory& operator=(const AnswerMemory&) = delete;

  // In bytes.
  void SetLimit(int64_t limit);

  // Whether a new call of this caller may begin: not while it has left its
  // share unread.
  bool Admit(const Caller& caller, Instant now) const;

  // The maximum of used() since the last TakePeak.
  int64_t TakePeak() { return peak_.exchange(used()); }
  int64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  int64_t used() const { return used_.load(std::memory_order_relaxed); }
  // Answers that wait for room.
  int waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  using Waiters = std::vector<std::shared_ptr<AnswerWaiter>>;

  // The bytes that `caller` may hold in total.
  int64_t ShareOf(const Caller& caller) const;
  static bool IsStalled(const Caller& caller, Instant since, Instant now);
  void Add(Hold* hold, int64_t more);
  void GrantLocked(Hold* hold) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FitsLocked(const Hold& hold, int64_t wanted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Leave(Hold* hold);
  void LeaveLocked(Hold* hold) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Gives room to waiting answers, caller by caller.
  void Serve();
  Waiters ServeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool ServeHeadLocked(Caller* caller, Waiters* served)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Refuses the waiting answers of stalled callers.
  void RefuseStalled(Instant now);
  void ArmLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const RunAtFn run_at_;
  std::atomic<int64_t> limit_;
  std::atomic<int64_t> used_{0};
  std::atomic<int64_t> peak_{0};
  std::atomic<int> waiting_{0};

  Mutex mu_;
  // Callers with waiting holds, the one served last at the end.
  std::deque<CallerPtr> callers_ ABSL_GUARDED_BY(mu_);
  std::atomic<Hold*> past_limit_{nullptr};  // Set under mu_.
  bool armed_ ABSL_GUARDED_BY(mu_) = false;
  // Expires with this: timers may fire later.
  const std::shared_ptr<AnswerMemory*> self_ =
      std::make_shared<AnswerMemory*>(this);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_ANSWER_MEMORY_H_
