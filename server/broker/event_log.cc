#include "server/broker/event_log.h"

#include <algorithm>

#include "base/text.h"

namespace hotline::server {
namespace {

// How many events Read looks at while it holds the lock.
constexpr size_t kMostPerHold = 256;

}  // namespace

bool EventLog::Admit(Rate* rate, Instant now) {
  if (rate->count == 0 || now - rate->since >= std::chrono::seconds(1)) {
    rate->since = now;
    rate->count = 0;
  }
  if (rate->count < kMostPerSecond) {
    ++rate->count;
    return true;
  }
  ++rate->left_out;
  return false;
}

EventLog::Recorder& EventLog::RecorderOfLocked(const std::string& target,
                                               Recorders* evicted) {
  const auto found = recorder_of_.find(target);
  if (found != recorder_of_.end()) {
    recorders_.splice(recorders_.begin(), recorders_, found->second);
    return recorders_.front();
  }
  if (recorders_.size() >= kRecorders) {
    recorder_of_.erase(recorders_.back().target);
    evicted->splice(evicted->begin(), recorders_, --recorders_.end());
  }
  recorders_.emplace_front().target = target;
  recorder_of_.emplace(target, recorders_.begin());
  return recorders_.front();
}

void EventLog::Add(Event event, Instant now) {
  event.text = std::string(CutUtf8(event.text, kMostTextBytes));
  event.time = std::chrono::system_clock::now();
  auto added = std::make_shared<Event>(std::move(event));
  // Freed after the lock is released.
  Recorders evicted;
  EventPtr oldest;
  EventPtr oldest_recorded;
  MutexLock lock(&mu_);
  Recorder& recorder = RecorderOfLocked(added->target, &evicted);
  Rate& rate = recorder.rates[added->kind];
  if (!Admit(&rate, now)) return;
  added->suppressed = std::exchange(rate.left_out, 0);
  added->sequence = last_.load(std::memory_order_relaxed) + 1;
  if (events_.size() >= capacity_) {
    oldest = std::move(events_.front());
    events_.pop_front();
  }
  if (recorder.events.size() >= kRecorded) {
    oldest_recorded = std::move(recorder.events.front());
    recorder.events.pop_front();
  }
  recorder.events.push_back(added);
  last_.store(added->sequence, std::memory_order_release);
  events_.push_back(std::move(added));
}

EventLog::Page EventLog::Read(uint64_t after, const EventFilter& filter,
                              size_t most) const {
  Page page;
  page.sequence = after;
  if (after >= last()) return page;
  MutexLock lock(&mu_);
  const uint64_t first = events_.front()->sequence;
  if (after + 1 < first) {
    page.gap_first = after + 1;
    page.gap_last = page.sequence = first - 1;
  }
  size_t next = page.sequence + 1 - first;
  const size_t end = std::min(events_.size(), next + kMostPerHold);
  for (; next < end && page.events.size() < most; ++next) {
    ++page.sequence;
    if (filter.Accepts(*events_[next])) page.events.push_back(events_[next]);
  }
  return page;
}

std::vector<EventPtr> EventLog::Recent(std::string_view target,
                                       size_t most) const {
  MutexLock lock(&mu_);
  const auto found = recorder_of_.find(std::string(target));
  if (found == recorder_of_.end()) return {};
  const std::deque<EventPtr>& events = found->second->events;
  const size_t skipped = events.size() - std::min(events.size(), most);
  return {events.begin() + static_cast<std::ptrdiff_t>(skipped), events.end()};
}

}  // namespace hotline::server
