// The memory that the bodies of answers take between the upstream and a caller
// that reads them late or never.
//
// All answers share one limit. A caller (a connection, or a session) may hold
// as much as is left for others: one that does not read gets half of the limit,
// two get a third each, so there is always room for those who read. Within a
// caller's share answers get room first come, first served.
//
// An answer asks for room (Grow) before more of it is read from the upstream.
// When there is none it waits, and its upstream with it, until an answer of the
// same caller has been written out or another caller's has made room. A caller
// that takes nothing for kStall while answers of its wait for room is stalled:
// those answers are refused, and so are its new calls (Admit), until it reads
// on. Nothing is refused to a caller that reads, however slowly.
//
// Answers whose length is unknown take room step by step, so several of them
// could wait for each other: one at a time may go past the limit.
//
// Thread safety: all methods may be called from any thread. The lock is a leaf;
// waiters are told without it.
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

// Told once for each Grow that said "not yet". From any thread, no lock held.
class AnswerWaiter {
 public:
  virtual ~AnswerWaiter() = default;
  // The room is there.
  virtual void OnRoom() = 0;
  // The caller is stalled: there will be none.
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

  // One that answers go to. Shared by its calls.
  class Caller {
   public:
    // `most`: a limit of its own, in bytes.
    explicit Caller(int64_t most = std::numeric_limits<int64_t>::max())
        : most_(most) {}

   private:
    friend class AnswerMemory;

    const int64_t most_;
    std::atomic<int64_t> held_{0};
    std::atomic<int> offered_{0};    // Answers that it could read by now.
    std::atomic<int64_t> took_ns_ =  // When it last read one.
        MonotonicNow().time_since_epoch().count();
    // Guarded by AnswerMemory::mu_: holds that wait, the first one first.
    std::deque<Hold*> waiting_;
  };
  using CallerPtr = std::shared_ptr<Caller>;

  // The room of one answer; given back when it is destroyed. Must not outlive
  // the AnswerMemory. Not thread-safe: one thread at a time asks; Grow's waiter
  // may be told on another.
  class Hold {
   public:
    Hold(AnswerMemory* memory, CallerPtr caller)
        : memory_(memory), caller_(std::move(caller)) {}
    ~Hold() { Reset(); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    const CallerPtr& caller() const { return caller_; }

    // True: the answer may take `bytes` in all. False: not yet; `waiter`, which
    // is kept alive until then, hears when. One Grow at a time.
    bool Grow(int64_t bytes, std::shared_ptr<AnswerWaiter> waiter, Instant now);
    // The same, but without waiting; false: it has what it had.
    bool TryGrow(int64_t bytes);
    // It is `bytes` by now, or what it was if that is more, whether there is
    // room or not.
    void AtLeast(int64_t bytes);
    // It is `bytes`, and the caller can read it from now on. Waits no more.
    void Offer(int64_t bytes);
    // The caller has read some of it.
    void Took(Instant now);
    // Takes nothing any more; what waited is not told.
    void Reset();

   private:
    friend class AnswerMemory;

    void Set(int64_t bytes);

    AnswerMemory* const memory_;
    const CallerPtr caller_;
    std::atomic<int64_t> bytes_{0};
    bool offered_ = false;
    // Guarded by AnswerMemory::mu_, while it waits.
    int64_t wanted_ = 0;
    Instant since_{};
    std::shared_ptr<AnswerWaiter> waiter_;
  };

  AnswerMemory(int64_t limit, RunAtFn run_at);
  AnswerMemory(const AnswerMemory&) = delete;
  AnswerMemory& operator=(const AnswerMemory&) = delete;

  // In bytes.
  void SetLimit(int64_t limit);

  // Whether a new call of this caller may begin: not while it leaves its share
  // unread.
  bool Admit(const Caller& caller, Instant now) const;

  // The most that was used since this was asked last.
  int64_t TakePeak() { return peak_.exchange(used()); }
  int64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  int64_t used() const { return used_.load(std::memory_order_relaxed); }
  // Answers that wait for room.
  int waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  using Waiters = std::vector<std::shared_ptr<AnswerWaiter>>;

  // What `caller` may hold in all.
  int64_t ShareOf(const Caller& caller) const;
  static bool IsStalled(const Caller& caller, Instant since, Instant now);
  void Add(Hold* hold, int64_t more);
  void GrantLocked(Hold* hold) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FitsLocked(const Hold& hold, int64_t wanted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Leave(Hold* hold);
  void LeaveLocked(Hold* hold) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Gives room to those who wait, in turn.
  void Serve();
  Waiters ServeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool ServeHeadLocked(Caller* caller, Waiters* served)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Refuses what waits for callers that are stalled.
  void Look(Instant now);
  void ArmLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const RunAtFn run_at_;
  std::atomic<int64_t> limit_;
  std::atomic<int64_t> used_{0};
  std::atomic<int64_t> peak_{0};
  std::atomic<int> waiting_{0};

  Mutex mu_;
  // Those with waiting holds; who was served last comes last.
  std::deque<CallerPtr> callers_ ABSL_GUARDED_BY(mu_);
  std::atomic<Hold*> past_limit_{nullptr};  // Set under mu_.
  bool armed_ ABSL_GUARDED_BY(mu_) = false;
  // Gone when this is: timers may fire later.
  const std::shared_ptr<AnswerMemory*> self_ =
      std::make_shared<AnswerMemory*>(this);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_ANSWER_MEMORY_H_
