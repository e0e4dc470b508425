#include "server/front/front.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"

namespace hotline::server {
namespace {

constexpr char kBroker[] = "hotline.v1.Broker";
constexpr char kHealth[] = "grpc.health.v1.Health";
constexpr char kRole[] = "grpc";  // Of its sockets.

// How long callers without a call may take to acknowledge the drain: some do
// not look at their connection until they need it.
constexpr Duration kGoodbyeTime = std::chrono::milliseconds(200);
// How long calls that were cancelled may take to end, and callers to take
// their last answers.
constexpr Duration kCutOffTime = std::chrono::seconds(5);

FrontParts PartsOf(const FrontOptions& options, const Front::Parts& parts,
                   FrontDoor* door, HealthTable* health,
                   const Reflection* reflection,
                   std::function<void()> on_drained) {
  FrontParts out;
  out.broker = parts.broker;
  out.metrics = parts.metrics;
  out.identities = parts.identities;
  out.door = door;
  out.health = health;
  out.reflection = reflection;
  if (parts.certificates != nullptr) out.tls = &parts.certificates->contexts();
  out.further_services = parts.further_services;
  out.on_drained = std::move(on_drained);
  out.http2.handshake_timeout = options.handshake_timeout;
  out.http2.max_resets_per_second = options.max_resets_per_second;
  if (options.max_message_bytes > 0) {
    out.max_assembled_bytes = static_cast<size_t>(options.max_message_bytes);
  }
  return out;
}

}  // namespace

Front::Front(const FrontOptions& options, const Parts& parts,
             std::unique_ptr<FrontDoor> door)
    : door_(std::move(door)),
      reflection_({kBroker, kHealth}),
      parts_(
          PartsOf(options, parts, door_.get(), &health_, &reflection_, [this] {
            MutexLock lock(&drained_mu_);
            drained_.notify_all();
          })) {}

absl::StatusOr<std::unique_ptr<Front>> Front::Start(
    const FrontOptions& options, const Parts& parts,
    const std::vector<net::Loop*>& loops) {
  auto door = FrontDoor::Bind(options.door, {parts.inherited, kRole});
  if (!door.ok()) return door.status();
  FrontOptions mine = options;
  mine.max_message_bytes /= static_cast<int64_t>(loops.size());
  std::unique_ptr<Front> front(new Front(mine, parts, *std::move(door)));
  for (net::Loop* const loop : loops) {
    front->loops_.push_back(std::make_unique<FrontLoop>(loop, &front->parts_));
  }
  front->SetServing(true);
  front->door_->Open([front = front.get()](int fd, const Visitor& visitor) {
    front->Deliver(fd, visitor);
  });
  return front;
}

Front::~Front() { Stop(Duration(0)); }

bool Front::HasIdentities(const FrontOptions& options) {
  if (!options.tls.cert_file.empty()) return true;
  const auto& addresses = options.door.addresses;
  return std::any_of(
      addresses.begin(), addresses.end(),
      [](const std::string& address) { return address.starts_with("unix:"); });
}

void Front::Deliver(int fd, const Visitor& visitor) {
  const auto fewest = std::min_element(
      loops_.begin(), loops_.end(), [](const auto& a, const auto& b) {
        return a->connections() < b->connections();
      });
  (*fewest)->Deliver(fd, visitor);
}

// Health.

void Front::SetServing(bool serving) {
  health_.Set("", serving);
  health_.Set(kBroker, serving);
  NotifyWatchers();
}

void Front::SetHealth(std::string_view service, bool serving) {
  health_.Set(service, serving);
  NotifyWatchers();
}

void Front::NotifyWatchers() {
  for (const auto& loop : loops_) loop->OnHealthChanged();
}

// The end.

bool Front::AwaitIdle(Duration most, Duration goodbye) {
  const Instant start = MonotonicNow();
  MutexLock lock(&drained_mu_);
  for (;;) {
    bool idle = true;
    bool calls = false;
    for (const auto& loop : loops_) {
      idle = idle && loop->idle();
      calls = calls || loop->has_calls();
    }
    if (idle) return true;
    const Instant end =
        SaturatingAdd(start, calls ? most : std::min(most, goodbye));
    if (MonotonicNow() >= end) return false;
    lock.WaitUntil(&drained_, end);
  }
}

void Front::StartDrain(Duration leases) {
  if (std::exchange(draining_, true)) return;
  // No connection is on its way to a loop after this.
  door_->Stop();
  const Instant until = SaturatingAdd(MonotonicNow(), leases);
  for (const auto& loop : loops_) loop->StartDrain(until);
}

bool Front::idle() const {
  return std::all_of(loops_.begin(), loops_.end(),
                     [](const auto& loop) { return loop->idle(); });
}

void Front::Stop(Duration grace) {
  if (std::exchange(stopped_, true)) return;
  StartDrain();
  if (!AwaitIdle(grace, kGoodbyeTime)) {
    for (const auto& loop : loops_) loop->CutOff();
    if (!AwaitIdle(kCutOffTime, kCutOffTime)) {
      HOTLINE_LOG(kError, "connections or calls do not end", {});
      return;
    }
  }
  CloseLoops();
}

void Front::CloseLoops() {
  struct Open {
    Mutex mu;
    std::condition_variable changed;
    size_t loops ABSL_GUARDED_BY(mu) = 0;
  };
  const auto open = std::make_shared<Open>();
  MutexLock lock(&open->mu);
  open->loops = loops_.size();
  for (const auto& loop : loops_) {
    loop->Close([open] {
      MutexLock lock(&open->mu);
      --open->loops;
      open->changed.notify_all();
    });
  }
  const Instant end = MonotonicNow() + kCutOffTime;
  while (open->loops > 0 && MonotonicNow() < end) {
    lock.WaitUntil(&open->changed, end);
  }
}

}  // namespace hotline::server
