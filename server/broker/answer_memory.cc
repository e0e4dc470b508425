#include "server/broker/answer_memory.h"

#include <algorithm>
#include <utility>

namespace hotline::server {
namespace {

// Small answers never wait, so a caller can exceed its share. Beyond this part
// of the limit its calls are refused even if it read an answer a moment ago.
constexpr int64_t kSlack = 4;

}  // namespace

AnswerMemory::AnswerMemory(int64_t limit, RunAtFn run_at)
    : run_at_(std::move(run_at)), limit_(limit > 0 ? limit : kDefaultLimit) {}

void AnswerMemory::SetLimit(int64_t limit) {
  limit_.store(limit > 0 ? limit : kDefaultLimit, std::memory_order_relaxed);
  Serve();
}

int64_t AnswerMemory::ShareOf(const Caller& caller) const {
  return std::min(caller.most_, std::max<int64_t>(0, limit() - used()));
}

bool AnswerMemory::IsStalled(const Caller& caller, Instant since, Instant now) {
  const Instant took{Duration(caller.took_ns_.load(std::memory_order_relaxed))};
  return now - std::max(since, took) >= kStall;
}

bool AnswerMemory::Admit(const Caller& caller, Instant now) const {
  const int64_t held = caller.held_.load(std::memory_order_relaxed);
  const int64_t share = ShareOf(caller);
  if (held <= share || held == 0) return true;
  if (held > share + limit() / kSlack) return false;
  return !IsStalled(caller, Instant(), now);
}

void AnswerMemory::Add(Hold* hold, int64_t more) {
  hold->bytes_.fetch_add(more, std::memory_order_relaxed);
  hold->caller_->held_.fetch_add(more);
  const int64_t used = used_.fetch_add(more) + more;
  if (used > peak_.load(std::memory_order_relaxed)) peak_.store(used);
}

// An answer that is its caller's only one needs room under the limit only,
// whatever the caller's share.
bool AnswerMemory::FitsLocked(const Hold& hold, int64_t wanted) const {
  const int64_t mine = hold.bytes_.load(std::memory_order_relaxed);
  const int64_t others = hold.caller_->held_.load() - mine;
  if (used() + wanted - mine > limit()) return false;
  return others <= 0 || others + wanted <= ShareOf(*hold.caller_);
}

bool AnswerMemory::Hold::TryGrow(int64_t bytes) {
  MutexLock lock(&memory_->mu_);
  if (!caller_->waiting_.empty() || !memory_->FitsLocked(*this, bytes)) {
    return false;
  }
  memory_->Add(this, bytes - bytes_.load(std::memory_order_relaxed));
  return true;
}

bool AnswerMemory::Hold::Grow(int64_t bytes,
                              std::shared_ptr<AnswerWaiter> waiter,
                              Instant now) {
  MutexLock lock(&memory_->mu_);
  wanted_ = bytes;
  since_ = now;
  waiter_ = std::move(waiter);
  if (caller_->waiting_.empty()) memory_->callers_.push_back(caller_);
  caller_->waiting_.push_back(this);
  // Counted before FitsLocked: room that is given back after that check serves
  // this hold.
  memory_->waiting_.fetch_add(1);
  if (caller_->waiting_.size() == 1 && memory_->FitsLocked(*this, bytes)) {
    memory_->GrantLocked(this);
    return true;
  }
  memory_->ArmLocked(now);
  return false;
}

void AnswerMemory::Hold::Set(int64_t bytes) {
  const int64_t more = bytes - bytes_.load(std::memory_order_relaxed);
  if (more == 0) return;
  memory_->Add(this, more);
  if (more < 0) memory_->Serve();
}

void AnswerMemory::Hold::AtLeast(int64_t bytes) {
  if (bytes > bytes_.load(std::memory_order_relaxed)) Set(bytes);
}

void AnswerMemory::Hold::Offer(int64_t bytes) {
  memory_->Leave(this);
  Set(bytes);
  if (!std::exchange(offered_, true)) caller_->offered_.fetch_add(1);
}

void AnswerMemory::Hold::Took(Instant now) {
  caller_->took_ns_.store(now.time_since_epoch().count(),
                          std::memory_order_relaxed);
}

void AnswerMemory::Hold::Reset() {
  memory_->Leave(this);
  Hold* self = this;
  memory_->past_limit_.compare_exchange_strong(self, nullptr);
  if (std::exchange(offered_, false)) {
    caller_->offered_.fetch_sub(1);
    Took(MonotonicNow());
  }
  Set(0);
}

void AnswerMemory::Leave(Hold* hold) {
  if (waiting() == 0) return;
  MutexLock lock(&mu_);
  LeaveLocked(hold);
}

void AnswerMemory::GrantLocked(Hold* hold) {
  Add(hold, hold->wanted_ - hold->bytes_.load(std::memory_order_relaxed));
  LeaveLocked(hold);
}

void AnswerMemory::LeaveLocked(Hold* hold) {
  if (hold->waiter_ == nullptr) return;
  hold->waiter_ = nullptr;
  std::deque<Hold*>& waiting = hold->caller_->waiting_;
  waiting.erase(std::find(waiting.begin(), waiting.end(), hold));
  if (waiting.empty()) std::erase(callers_, hold->caller_);
  waiting_.fetch_sub(1);
}

void AnswerMemory::Serve() {
  if (waiting_.load() == 0) return;
  Waiters served;
  {
    MutexLock lock(&mu_);
    served = ServeLocked();
  }
  for (const auto& waiter : served) waiter->OnRoom();
}

AnswerMemory::Waiters AnswerMemory::ServeLocked() {
  Waiters served;
  // Rounds over the callers, one hold each, until a round serves none.
  for (size_t idle = 0; !callers_.empty() && idle < callers_.size();) {
    const CallerPtr caller = callers_.front();
    callers_.pop_front();
    callers_.push_back(caller);
    idle = ServeHeadLocked(caller.get(), &served) ? 0 : idle + 1;
  }
  if (!served.empty() || past_limit_.load() != nullptr) return served;
  // Answers that hold a part of their room may be waiting for each other.
  for (const CallerPtr& caller : callers_) {
    Hold* const head = caller->waiting_.front();
    if (caller->offered_.load() > 0) continue;  // It can make room itself.
    past_limit_ = head;
    served.push_back(head->waiter_);
    GrantLocked(head);
    break;
  }
  return served;
}

bool AnswerMemory::ServeHeadLocked(Caller* caller, Waiters* served) {
  Hold* const head = caller->waiting_.front();
  if (!FitsLocked(*head, head->wanted_)) return false;
  served->push_back(head->waiter_);
  GrantLocked(head);
  return true;
}

void AnswerMemory::ArmLocked(Instant now) {
  if (std::exchange(armed_, true)) return;
  run_at_(now + kStall / 4, [weak = std::weak_ptr<AnswerMemory*>(self_)] {
    if (const auto self = weak.lock()) (*self)->RefuseStalled(MonotonicNow());
  });
}

void AnswerMemory::RefuseStalled(Instant now) {
  Waiters refused;
  Waiters served;
  {
    MutexLock lock(&mu_);
    armed_ = false;
    const std::vector<CallerPtr> callers(callers_.begin(), callers_.end());
    for (const CallerPtr& caller : callers) {
      if (caller->offered_.load() == 0)
        continue;  // It waits for other callers.
      while (!caller->waiting_.empty()) {
        Hold* const head = caller->waiting_.front();
        if (!IsStalled(*caller, head->since_, now)) break;
        refused.push_back(head->waiter_);
        LeaveLocked(head);
      }
    }
    served = ServeLocked();
    if (!callers_.empty()) ArmLocked(now);
  }
  for (const auto& waiter : refused) waiter->OnNoRoom();
  for (const auto& waiter : served) waiter->OnRoom();
}

}  // namespace hotline::server
