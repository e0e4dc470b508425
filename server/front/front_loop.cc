#include "server/front/front_loop.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/front/caller_connection.h"
#include "server/front/health.h"

namespace hotline::server {
namespace {

// A turn's TLS handshakes: each costs about as much as 20 calls.
constexpr int kMaxHandshakes = 4;
// How often a drain looks whether leases have ended.
constexpr Duration kLeaseCheck = std::chrono::milliseconds(20);

// Closes the descriptor unless it was taken.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int Take() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace

FrontLoop::FrontLoop(net::Loop* loop, const FrontParts* parts)
    : loop_(loop),
      parts_(parts),
      scratch_(new char[2 * net::Loop::kScratchBytes]) {}

FrontLoop::~FrontLoop() = default;

// From any thread.

void FrontLoop::Deliver(int fd, Visitor visitor) {
  connection_count_.fetch_add(1, std::memory_order_relaxed);
  loop_->Post(
      [this, fd = Descriptor(fd), visitor = std::move(visitor)]() mutable {
        Take(fd.Take(), std::move(visitor));
      });
}

void FrontLoop::StartDrain(Instant leases_until) {
  loop_->Post([this, leases_until] {
    draining_ = true;
    DrainConnections(leases_until);
    for (HealthWatch* const watch : watches_) watch->OnDrain();
    NoteDrained();
  });
}

void FrontLoop::DrainConnections(Instant leases_until) {
  const Instant now = MonotonicNow();
  bool all = true;
  // Some may leave the set.
  const std::vector<CallerConnection*> connections(connections_.begin(),
                                                   connections_.end());
  for (CallerConnection* const connection : connections) {
    if (now < leases_until && connection->HoldsLeases(now)) {
      all = false;
    } else {
      connection->StartDrain(now);
    }
  }
  if (all) return;
  lease_check_ =
      loop_->RunAt(std::min(leases_until, SaturatingAdd(now, kLeaseCheck)),
                   [this, leases_until] { DrainConnections(leases_until); });
}

void FrontLoop::Close(net::Loop::Work done) {
  loop_->Post([this, done = std::move(done)]() mutable {
    loop_->Cancel(lease_check_);
    done();
  });
}

void FrontLoop::CutOff() {
  loop_->Post([this] {
    draining_ = cut_off_ = true;
    // Answers that calls have collected go out first.
    EndTurn();
    // Each leaves the set.
    const std::vector<CallerConnection*> all(connections_.begin(),
                                             connections_.end());
    for (CallerConnection* const connection : all) connection->CutOff();
  });
}

void FrontLoop::OnHealthChanged() {
  loop_->Post([this] {
    for (HealthWatch* const watch : watches_) watch->OnHealthChanged();
  });
}

// Connections.

void FrontLoop::Take(int fd, Visitor visitor) {
  const Instant now = MonotonicNow();
  std::unique_ptr<net::TlsServerEngine> tls;
  const bool secured =
      visitor.kind == Listener::Kind::kReachable && parts_->tls != nullptr;
  if (secured) tls = net::TlsServerEngine::Create(parts_->tls->current());
  if (cut_off_ || (secured && tls == nullptr)) {
    close(fd);
    parts_->door->Leave(visitor);
    return ForgetConnection();
  }
  const auto connection = std::make_shared<CallerConnection>(
      this, fd, std::move(visitor), std::move(tls), now);
  connections_.insert(connection.get());
  if (connection->Open() && draining_) connection->StartDrain(now);
}

void FrontLoop::OnConnectionClosed(CallerConnection* connection) {
  connections_.erase(connection);
  parts_->door->Leave(connection->visitor());
  ForgetConnection();
}

void FrontLoop::ForgetConnection() {
  if (connection_count_.fetch_sub(1, std::memory_order_release) == 1) {
    NoteDrained();
  }
}

// Turns.

void FrontLoop::ScheduleTurnEnd() {
  if (std::exchange(turn_end_posted_, true)) return;
  loop_->Post([this] { EndTurn(); });
}

void FrontLoop::MarkDirty(std::shared_ptr<CallerConnection> connection) {
  dirty_.push_back(std::move(connection));
  ScheduleTurnEnd();
}

void FrontLoop::AtTurnEnd(ServerCall* call) {
  at_turn_end_.emplace_back(call);
  ScheduleTurnEnd();
}

bool FrontLoop::TakeHandshake() {
  if (handshakes_ >= kMaxHandshakes) return false;
  ++handshakes_;
  ScheduleTurnEnd();
  return true;
}

void FrontLoop::EndTurn() {
  handshakes_ = turn_calls_ = 0;
  // Output of these calls leaves in this turn; what is added to the lists while
  // they are worked on has its turn in the next.
  std::swap(at_turn_end_, spare_calls_);
  for (const ServerCall::Ref& call : spare_calls_) call->OnTurnEnd();
  spare_calls_.clear();
  std::swap(dirty_, spare_dirty_);
  const Instant now = MonotonicNow();
  for (const auto& connection : spare_dirty_) connection->Flush(now);
  spare_dirty_.clear();
  turn_end_posted_ = false;
  if (!at_turn_end_.empty() || !dirty_.empty() || turn_is_full()) {
    ScheduleTurnEnd();
  }
}

}  // namespace hotline::server
