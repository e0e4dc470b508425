#include "net/loop.h"

#include <pthread.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <utility>
#include <vector>

namespace hotline::net {
namespace {

// Of one turn, so that sockets are served in between.
constexpr size_t kDeadlinesPerTurn = 256;

}  // namespace

struct Loop::Asio {
  // One thread runs it and does all I/O on it; several threads post to it.
  boost::asio::io_context io{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO};
  boost::asio::steady_timer timer{io};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{
      io.get_executor()};
};

Loop::Loop(uint16_t index)
    : index_(index),
      asio_(std::make_unique<Asio>()),
      sockets_(asio_->io),
      scratch_(new char[2 * kScratchBytes]) {}

Loop::~Loop() {
  if (thread_.joinable()) {
    Post([this] { Finish(); });
    Join();
  }
}

void Loop::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "hotline-loop");
    clockid_t clock;
    if (pthread_getcpuclockid(pthread_self(), &clock) == 0) cpu_clock_ = clock;
    asio_->io.run();
    cpu_clock_ = -1;
  });
}

void Loop::Finish() {
  DeadlineQueue dropped;
  {
    MutexLock lock(&mu_);
    finished_ = true;
    std::swap(dropped, deadlines_);
  }
  asio_->timer.cancel();
  sockets_.Finish();
  asio_->work.reset();
}

void Loop::Join() {
  if (!thread_.joinable()) return;
  thread_.join();
  asio_->io.restart();
  asio_->io.poll();
}

void Loop::Post(Work work) { boost::asio::post(asio_->io, std::move(work)); }

Loop::Deadline Loop::RunAt(Instant when, Work work) {
  Deadline deadline;
  {
    MutexLock lock(&mu_);
    if (finished_) return deadline;
    deadline = deadlines_.Add(when, std::move(work));
    if (when >= armed_) return deadline;
    armed_ = when;
  }
  if (RunsHere()) {
    Arm(when);
  } else {
    Post([this] {
      Instant earliest;
      {
        MutexLock lock(&mu_);
        earliest = armed_ = deadlines_.earliest();
      }
      Arm(earliest);
    });
  }
  return deadline;
}

void Loop::Cancel(const Deadline& deadline) {
  if (!deadline) return;
  Work dropped;  // Destroyed after the lock is released.
  MutexLock lock(&mu_);
  dropped = deadlines_.Remove(deadline);
}

size_t Loop::deadlines() const {
  MutexLock lock(&mu_);
  return deadlines_.size();
}

bool Loop::RunsHere() const {
  return asio_->io.get_executor().running_in_this_thread();
}

void Loop::Arm(Instant when) {
  if (when == kNever) return;
  asio_->timer.expires_at(
      std::chrono::time_point_cast<boost::asio::steady_timer::duration>(when));
  asio_->timer.async_wait([this](const boost::system::error_code& error) {
    if (!error) OnTimer();
  });
}

void Loop::OnTimer() {
  const Instant now = MonotonicNow();
  std::vector<Work> due;
  {
    MutexLock lock(&mu_);
    const Instant earliest = deadlines_.earliest();
    if (earliest < now) NoteLag(now - earliest, now);
    due = deadlines_.TakeDue(now, kDeadlinesPerTurn);
  }
  for (Work& work : due) work();
  Instant earliest;
  {
    MutexLock lock(&mu_);
    earliest = armed_ = deadlines_.earliest();
  }
  Arm(earliest);
}

namespace {

Duration Decayed(Duration lag, Duration age) {
  const int64_t halvings = age / std::chrono::seconds(1);
  return halvings < 63 ? Duration(lag.count() >> halvings) : Duration(0);
}

}  // namespace

void Loop::NoteLag(Duration lag, Instant now) {
  if (lag < Decayed(lag_, now - lag_at_)) return;
  lag_ = lag;
  lag_at_ = now;
}

Duration Loop::lag(Instant now) const {
  MutexLock lock(&mu_);
  const Instant earliest = deadlines_.earliest();
  const Duration current = earliest < now ? now - earliest : Duration(0);
  return std::max(current, Decayed(lag_, now - lag_at_));
}

Duration Loop::cpu_time() const {
  const clockid_t clock = cpu_clock_;
  timespec used;
  if (clock == -1 || clock_gettime(clock, &used) != 0) return Duration(0);
  return std::chrono::seconds(used.tv_sec) + Duration(used.tv_nsec);
}

boost::asio::io_context& Loop::io() { return asio_->io; }

}  // namespace hotline::net
