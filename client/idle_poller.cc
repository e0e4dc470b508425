#include "client/idle_poller.h"

#include <chrono>
#include <utility>

namespace hotline::client {
namespace {

constexpr Duration kInterval = std::chrono::milliseconds(200);
// Duration of one poll without events.
constexpr Duration kPoll = std::chrono::milliseconds(1);
constexpr Duration kPollWhileConnecting = std::chrono::milliseconds(100);

}  // namespace

gpr_timespec InFuture(Duration length) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(length.count(), GPR_TIMESPAN));
}

IdlePoller::IdlePoller(std::shared_ptr<grpc::Channel> channel)
    : channel_(std::move(channel)) {}

IdlePoller::~IdlePoller() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void IdlePoller::StartOnce() {
  std::call_once(started_,
                 [this] { thread_ = std::thread([this] { Run(); }); });
}

void IdlePoller::Run() {
  for (;;) {
    const grpc_connectivity_state state =
        channel_->GetState(/*try_to_connect=*/false);
    const bool connecting = state == GRPC_CHANNEL_CONNECTING ||
                            state == GRPC_CHANNEL_TRANSIENT_FAILURE;
    // Waiting for a state change makes gRPC poll.
    channel_->WaitForStateChange(
        state, InFuture(connecting ? kPollWhileConnecting : kPoll));
    const Instant next =
        MonotonicNow() + (connecting ? Duration(0) : kInterval);
    MutexLock lock(&mu_);
    while (!stopping_ && MonotonicNow() < next) {
      lock.WaitUntil(&changed_, next);
    }
    if (stopping_) return;
  }
}

}  // namespace hotline::client
