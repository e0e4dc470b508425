#include "client/cli/bench_load.h"

#include <algorithm>
#include <chrono>

#include "client/broker_client.h"

namespace hotline::client {
namespace {

// How long operations in flight may take once the time is up.
constexpr Duration kGrace = std::chrono::seconds(5);
// How soon an interruption is noticed, at the latest.
constexpr Duration kPollInterval = std::chrono::milliseconds(20);

std::string NameOf(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  if (info.has_value() && !info->reason.empty()) return info->reason;
  return absl::StatusCodeToString(status.code());
}

}  // namespace

uint64_t BenchResult::failed() const {
  uint64_t all = 0;
  for (const auto& [name, count] : errors) all += count;
  return all;
}

BenchLoad::BenchLoad(const BenchPlan& plan, std::vector<BenchDriver*> drivers)
    : plan_(plan), slots_(plan.concurrency) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].driver = drivers[i % drivers.size()];
    free_.push_back(slots_.size() - 1 - i);
  }
}

Instant BenchLoad::DueAt(int64_t operation) const {
  return start_ + Duration(static_cast<int64_t>(static_cast<double>(operation) /
                                                plan_.rate * 1e9));
}

bool BenchLoad::OverLocked(Instant now) const {
  return stopped_ || (plan_.requests > 0 && started_ >= plan_.requests) ||
         (plan_.duration > Duration(0) && now >= start_ + plan_.duration);
}

bool BenchLoad::Next(size_t slot) {
  const Instant now = MonotonicNow();
  MutexLock lock(&mu_);
  const Instant due = plan_.rate > 0 ? DueAt(started_) : now;
  if (OverLocked(now) || due > now) {
    --running_;
    free_.push_back(slot);
    if (running_ == 0) changed_.notify_all();
    return false;
  }
  ++started_;
  slots_[slot].due = due;
  return true;
}

// Starts a slot's operations, one after the other, while they end inside Start.
void BenchLoad::Drive(size_t slot) {
  Slot& mine = slots_[slot];
  while (Next(slot)) {
    mine.starting = 1;
    mine.driver->Start(
        [this, slot](const absl::Status& status) { OnDone(slot, status); });
    // The operation is in flight: OnDone will drive.
    if (mine.starting.exchange(0) == 1) return;
  }
}

void BenchLoad::OnDone(size_t slot, const absl::Status& status) {
  Record(slot, status, MonotonicNow());
  // If Start is still on the stack, here or in another thread, Drive continues.
  int starting = 1;
  if (slots_[slot].starting.compare_exchange_strong(starting, 2)) return;
  Drive(slot);
}

void BenchLoad::Record(size_t slot, const absl::Status& status, Instant now) {
  Stripe& stripe = stripes_[slot % kStripes];
  MutexLock lock(&stripe.mu);
  if (status.ok()) return stripe.latency.Record(now - slots_[slot].due);
  ++stripe.errors[NameOf(status)];
  if (stripe.first_error.ok()) stripe.first_error = status;
}

Instant BenchLoad::StartDue(Instant now) {
  while (true) {
    size_t slot;
    {
      MutexLock lock(&mu_);
      // A slot that becomes free finds the operations that are due by itself.
      if (free_.empty()) return now + kPollInterval;
      if (OverLocked(MonotonicNow())) return kNever;
      if (plan_.rate > 0 && DueAt(started_) > now) return DueAt(started_);
      slot = free_.back();
      free_.pop_back();
      ++running_;
    }
    Drive(slot);
  }
}

BenchResult BenchLoad::Collect(Instant now) {
  BenchResult all;
  for (Stripe& stripe : stripes_) {
    MutexLock lock(&stripe.mu);
    all.latency.Merge(stripe.latency);
    for (const auto& [name, count] : stripe.errors) all.errors[name] += count;
    if (all.first_error.ok()) all.first_error = stripe.first_error;
  }
  all.took = now - start_;
  return all;
}

BenchResult BenchLoad::Run(
    const std::atomic<bool>& interrupted,
    const std::function<void(const BenchResult&)>& tick) {
  start_ = MonotonicNow();
  const Instant end =
      plan_.duration > Duration(0) ? start_ + plan_.duration : kNever;
  Instant next_tick = start_ + std::chrono::seconds(1);
  Instant now = start_;
  while (now < end && !interrupted) {
    const bool closed = plan_.rate <= 0;
    const Instant due = closed && now != start_ ? kNever : StartDue(now);
    {
      MutexLock lock(&mu_);
      if (plan_.requests > 0 && started_ >= plan_.requests && running_ == 0) {
        break;
      }
      lock.WaitUntil(&changed_,
                     std::min({due, end, next_tick, now + kPollInterval}));
    }
    now = MonotonicNow();
    if (now < next_tick) continue;
    tick(Collect(now));
    next_tick += std::chrono::seconds(1);
  }
  const Instant stop = MonotonicNow();
  {
    MutexLock lock(&mu_);
    stopped_ = true;
    while (running_ > 0 && MonotonicNow() < stop + kGrace) {
      lock.WaitUntil(&changed_, stop + kGrace);
    }
  }
  BenchResult result = Collect(MonotonicNow());
  result.interrupted = interrupted;
  return result;
}

}  // namespace hotline::client
