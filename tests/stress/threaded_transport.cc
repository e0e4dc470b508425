#include "tests/stress/threaded_transport.h"

#include <algorithm>
#include <utility>

namespace hotline::stress {

using pool::CloseReason;
using pool::ConnId;

ThreadedTransport::ThreadedTransport(int mischief) : mischief_(mischief) {}

ThreadedTransport::~ThreadedTransport() { Stop(); }

void ThreadedTransport::Start(pool::Pool* pool) {
  pool_ = pool;
  threads_.emplace_back([this] { Answer(); });
  threads_.emplace_back([this] { Answer(); });
  threads_.emplace_back([this] { Tick(); });
}

void ThreadedTransport::AwaitQuiet() {
  std::unique_lock lock(mu_);
  changed_.wait(lock, [this] {
    return open_.empty() && queue_.empty() && answering_ == 0;
  });
}

void ThreadedTransport::Stop() {
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void ThreadedTransport::Post(std::function<void()> answer) {
  {
    std::lock_guard lock(mu_);
    queue_.push_back(std::move(answer));
  }
  changed_.notify_all();
}

void ThreadedTransport::Answer() {
  std::unique_lock lock(mu_);
  while (true) {
    changed_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const auto answer = std::move(queue_.front());
    queue_.pop_front();
    ++answering_;
    lock.unlock();
    answer();
    lock.lock();
    --answering_;
    changed_.notify_all();
  }
}

void ThreadedTransport::Tick() {
  std::unique_lock lock(mu_);
  while (!stopped_) {
    const auto next = std::min_element(
        wakes_.begin(), wakes_.end(),
        [](const auto& a, const auto& b) { return a.second < b.second; });
    if (next == wakes_.end()) {
      changed_.wait(lock);
      continue;
    }
    const Instant when = next->second;
    if (MonotonicNow() < when) {
      changed_.wait_until(lock, when);
      continue;
    }
    const int shard = next->first;
    wakes_.erase(next);
    ++answering_;
    lock.unlock();
    pool_->Tick(shard, MonotonicNow());
    lock.lock();
    --answering_;
    changed_.notify_all();
  }
}

bool ThreadedTransport::GoesWrong() {
  return mischief_ > 0 &&
         answers_.fetch_add(1, std::memory_order_relaxed) % mischief_ == 0;
}

void ThreadedTransport::Dial(ConnId id,
                             std::shared_ptr<const pool::HostPoolKey> key) {
  static_cast<void>(key);
  {
    std::lock_guard lock(mu_);
    open_.emplace(id, false);
  }
  Post([this, id] { FinishDial(id); });
}

void ThreadedTransport::FinishDial(ConnId id) {
  if (GoesWrong()) {
    pool_->DialFailed(id, pool::DialError{}, {}, MonotonicNow());
    std::lock_guard lock(mu_);
    open_.erase(id);
    return;
  }
  {
    std::lock_guard lock(mu_);
    open_[id] = true;
  }
  pool::Established established;
  established.handle = next_handle_.fetch_add(1, std::memory_order_relaxed);
  pool_->Dialed(id, established, MonotonicNow());
  if (GoesWrong()) CloseOnce(id, CloseReason::kPeerClosed);
}

void ThreadedTransport::Probe(ConnId id, pool::Handle handle,
                              std::shared_ptr<const pool::HostPoolKey> key) {
  static_cast<void>(handle);
  static_cast<void>(key);
  const bool passed = !GoesWrong();
  Post([this, id, passed] { pool_->Probed(id, passed, MonotonicNow()); });
}

void ThreadedTransport::Close(ConnId id, pool::Handle handle,
                              CloseReason reason) {
  static_cast<void>(handle);
  Post([this, id, reason] { CloseOnce(id, reason); });
}

// Whoever comes first tells the pool; the other one's word is the same.
void ThreadedTransport::CloseOnce(ConnId id, CloseReason reason) {
  {
    std::lock_guard lock(mu_);
    if (open_.erase(id) == 0) return;
    ++answering_;  // Until it has been told.
  }
  pool_->Closed(id, reason, MonotonicNow());
  std::lock_guard lock(mu_);
  --answering_;
  changed_.notify_all();
}

void ThreadedTransport::WakeAt(int shard, Instant when) {
  {
    std::lock_guard lock(mu_);
    const auto [wake, added] = wakes_.emplace(shard, when);
    if (!added && when < wake->second) wake->second = when;
  }
  changed_.notify_all();
}

}  // namespace hotline::stress
