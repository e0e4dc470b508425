// A transport that answers from its own thread.
#ifndef HOTLINE_TESTS_STRESS_THREADED_TRANSPORT_H_
#define HOTLINE_TESTS_STRESS_THREADED_TRANSPORT_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "pool/pool.h"

namespace hotline::pool {

// Answers in the order of the requests.
class ThreadedTransport final : public Transport {
 public:
  void Start(Pool* pool) {
    pool_ = pool;
    stopping_ = false;
    wakes_.assign(pool->shards(), kNever);
    thread_ = std::thread([this] { Run(); });
  }

  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void Dial(ConnId id, std::shared_ptr<const HostPoolKey> key,
            LoopIndex loop) override {
    Add({Request::kDial, id, key->mode, loop});
  }
  void Probe(ConnId id, std::shared_ptr<const HostPoolKey>) override {
    Add({Request::kProbe, id});
  }
  void Close(ConnId id, CloseReason) override { Add({Request::kClose, id}); }
  void WakeAt(int shard, Instant when) override {
    {
      std::lock_guard lock(mutex_);
      wakes_[shard] = std::min(wakes_[shard], when);
    }
    wake_.notify_one();
  }

  // Connections opened and not closed. To be called after Stop.
  int open() const { return open_; }

 private:
  struct Request {
    enum Kind { kDial, kProbe, kClose };
    Kind kind;
    ConnId id;
    Mode mode = Mode::kShared;
    LoopIndex loop = 0;
  };

  void Add(Request request) {
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    wake_.notify_one();
  }

  void Run() {
    std::unique_lock lock(mutex_);
    while (true) {
      if (requests_.empty()) {
        if (stopping_) return;
        const Instant next = *std::min_element(wakes_.begin(), wakes_.end());
        // A condition variable cannot wait until kNever.
        wake_.wait_until(
            lock, std::min(next, MonotonicNow() + std::chrono::hours(1)));
      }
      std::deque<Request> batch = std::exchange(requests_, {});
      std::vector<int> due;
      for (size_t i = 0; i < wakes_.size(); ++i) {
        if (wakes_[i] > MonotonicNow()) continue;
        wakes_[i] = kNever;
        due.push_back(static_cast<int>(i));
      }
      lock.unlock();
      for (const Request& request : batch) Answer(request);
      for (const int shard : due) pool_->Tick(shard, MonotonicNow());
      lock.lock();
    }
  }

  void Answer(const Request& request) {
    const Instant now = MonotonicNow();
    const ConnId id = request.id;
    switch (request.kind) {
      case Request::kDial:
        if (random_() % 50 == 0) {
          pool_->DialFailed(id, {}, now);
          return;
        }
        ++open_;
        // Every second connection has streams.
        pool_->Dialed(id, {random_() % 2 == 0 ? 3 : 1, {}, request.loop}, now);
        if (random_() % 4 == 0) pool_->ConcurrencyChanged(id, 2, now);
        if (random_() % 4 == 0) pool_->Served(id, now);
        if (random_() % 4 == 0) {
          pool_->GoAway(id, random_() % 2 == 0 ? &early_ : nullptr, now);
        }
        if (random_() % 4 == 0) pool_->ErrorCounted(id, now);
        return;
      case Request::kProbe:
        pool_->Probed(id, random_() % 8 != 0, now);
        return;
      case Request::kClose:
        --open_;
        pool_->Closed(id, CloseReason::kError,
                      random_() % 8 == 0 ? &early_ : nullptr, now);
        return;
    }
  }

  Pool* pool_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Request> requests_;
  std::vector<Instant> wakes_;
  bool stopping_ = false;
  std::mt19937_64 random_{17};
  const DialError early_{FailureClass::kNetwork, "CONNECT_FAILED", "early"};
  int open_ = 0;
  std::thread thread_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_TESTS_STRESS_THREADED_TRANSPORT_H_
