#include "pool/host_pool.h"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "pool/hot_path.h"
#include "pool/target.h"
#include "pool/transport.h"

namespace hotline::pool {
namespace {

constexpr int kMaxBackoffDoublings = 20;

// The older one of two heads; either may be null.
Waiting* Older(Waiting* a, Waiting* b) {
  if (a == nullptr) return b;
  if (b == nullptr) return a;
  return a->order < b->order ? a : b;
}

}  // namespace

HostPool::HostPool(ShardState* shard, Target* target,
                   std::shared_ptr<const HostPoolKey> key, uint64_t hash)
    : shard_(shard),
      target_(target),
      key_(std::move(key)),
      hash_(hash),
      is_default_(key_->mode == target->config().default_mode &&
                  key_->options == ConnectionOptions{}) {}

HostPool::~HostPool() {
  shard_->timers.Cancel(&timer_);
  ForEachConnection([this](Connection& conn) {
    conn.Link<InPool>::Unlink();
    conn.Link<InIdleOrder>::Unlink();
    shard_->timers.Cancel(&conn.timer);
  });
  ForEachWaiting([this](Waiting& waiting) {
    waiting.Link<InLine>::Unlink();
    shard_->timers.Cancel(&waiting.timer);
  });
}

// --- Lending ---

Connection* HostPool::FirstFit(ConnectionList* list, Instant now) {
  while (Connection* conn = list->front()) {
    if (now < conn->lend_until) return conn;
    // Its timer should have fired by now; a late one must not let it be lent.
    if (now >= conn->retire_at) {
      Close(conn, CloseReason::kLifetime);
    } else {
      PutAside(conn, now);
    }
  }
  return nullptr;
}

void HostPool::Expire(Lease* lease, Instant now) {
  Connection* conn = lease->conn;
  ++target_->counters().leases_expired;
  // Nobody knows in which state the borrower left it.
  if (!conn->multiplexed && !conn->gone && conn->state != ConnState::kClosing) {
    Close(conn, CloseReason::kExpired);
  }
  EndLease(lease, Outcome::kOk, now);
}

// Whether an idle connection is closed because its token is wanted.
bool HostPool::GiveUp(Connection* conn) {
  const Budget::Claim claim = shard_->shared->connections.ClaimIdle(AtFloor());
  if (claim == Budget::Claim::kNo) return false;
  Close(conn,
        claim == Budget::Claim::kOverCap ? CloseReason::kShrunk
                                         : CloseReason::kReclaimed,
        /*claimed=*/true);
  return true;
}

void HostPool::Judge(Connection* conn, Outcome outcome) {
  const bool broken = outcome == Outcome::kBroken;
  if (broken) ++target_->counters().errors_counted;
  if (conn->gone || conn->state == ConnState::kClosing) return;
  if (broken) ++conn->errors;
  if (!conn->multiplexed) {
    Close(conn, broken ? CloseReason::kBroken : CloseReason::kDiscarded);
  } else if (!broken) {
    Drain(conn, CloseReason::kDiscarded);
  } else if (conn->errors > target_->config().max_errors) {
    Drain(conn, CloseReason::kProbeFailed);
  }
}

// --- The lines ---

Waiting* HostPool::Join(const AcquireRequest& request, Instant now) {
  Waiting* waiting = shard_->waiting.Allocate();
  waiting->pool = this;
  waiting->waiter = request.waiter;
  waiting->new_only = request.reuse == Reuse::kForceNew;
  waiting->order = shard_->next_order++;
  waiting->arrived = now;
  waiting->deadline = request.deadline;
  waiting->terms = {request.lease_ttl, request.secret, request.owner,
                    request.holder, nullptr};
  waiting->info = WaitInfo{};
  int& length = waiting->new_only ? new_line_length_ : line_length_;
  (waiting->new_only ? new_line_ : line_).PushBack(waiting);
  waiting->info.place = ++length;
  target_->OnWaiters(1);
  shard_->FireBy(&waiting->timer, waiting->deadline);
  return waiting;
}

void HostPool::Leave(Waiting* waiting) {
  waiting->Link<InLine>::Unlink();
  --(waiting->new_only ? new_line_length_ : line_length_);
  target_->OnWaiters(-1);
  shard_->timers.Cancel(&waiting->timer);
  if (waiting->terms.request != nullptr) {
    target_->ForgetRequest(waiting->terms.request);
    waiting->terms.request = nullptr;
  }
  waiting->terms.holder = nullptr;
  shard_->waiting.Free(waiting);
}

void HostPool::Reject(Waiting* waiting, RejectReason reason, Instant now,
                      const DialError* error) {
  std::unique_ptr<Rejection> rejection =
      target_->Explain(reason, *this, waiting, now);
  if (error != nullptr) rejection->dial_error = *error;
  shard_->outbox.push_back(RejectEffect{waiting->waiter, std::move(rejection)});
  Leave(waiting);
}

void HostPool::RejectAll(RejectReason reason, Instant now,
                         const DialError* error) {
  while (Waiting* head = Older(line_.front(), new_line_.front())) {
    Reject(head, reason, now, error);
  }
}

void HostPool::RejectOverdue(List<Waiting, InLine>* line, Instant now) {
  while (Waiting* head = line->front()) {
    if (now < head->deadline) return;
    Reject(head, RejectReason::kWaitTimeout, now);
  }
}

void HostPool::Serve(Instant now) {
  while (true) {
    RejectOverdue(&line_, now);
    RejectOverdue(&new_line_, now);
    Waiting* any = line_.front();
    Waiting* choosy = new_line_.front();
    if (any == nullptr && choosy == nullptr) return;
    Connection* conn = FindLendable(/*new_only=*/any == nullptr, now);
    if (conn == nullptr) return;
    const bool choosy_first = Older(any, choosy) == choosy;
    if (conn->uses == 0 && choosy_first) {
      GrantTo(choosy, conn, now);
    } else if (conn->active == 0 &&
               (choosy_first ? target_->PlacesShort(now) > 0
                             : target_->OwesPlaceBefore(*any, now))) {
      // The one whose turn it is needs its place, not the connection.
      Close(conn, CloseReason::kReclaimed);
    } else {
      GrantTo(any, conn, now);
    }
  }
}

void HostPool::GrantTo(Waiting* waiting, Connection* conn, Instant now) {
  GrantEffect effect;
  effect.waiter = waiting->waiter;
  effect.grant.wait = waiting->info;
  effect.grant.wait.waited = std::max(Duration(0), now - waiting->arrived);
  effect.grant.wait.dials_in_flight = count(ConnState::kDialing);
  target_->counters().wait.Record(effect.grant.wait.waited);
  if (conn->uses == 0) effect.grant.dial = conn->timings;
  Lease* lease = Lend(conn, waiting->terms.ttl, waiting->terms.secret,
                      waiting->terms.owner, now);
  lease->holder = std::move(waiting->terms.holder);
  if (Request* request = std::exchange(waiting->terms.request, nullptr)) {
    lease->request = request;
    *request = {request->name, this,    request->reuse,
                request->ttl,  nullptr, lease};
  }
  Leave(waiting);
  FillGrant(*lease, &effect.grant);
  shard_->outbox.push_back(std::move(effect));
}

uint64_t HostPool::OldestOrder() const {
  const Waiting* head = Older(line_.front(), new_line_.front());
  return head == nullptr ? UINT64_MAX : head->order;
}

Instant HostPool::OldestArrival(Instant now) const {
  const Waiting* head = Older(line_.front(), new_line_.front());
  return head == nullptr ? now : head->arrived;
}

// --- Connections ---

void HostPool::BeginDial(Instant now) {
  Connection* conn = shard_->connections.Allocate();
  conn->pool = this;
  conn->state = ConnState::kDialing;
  conn->gone = false;
  conn->multiplexed = false;
  conn->close_asked = false;
  conn->unproven = false;
  conn->limit = 0;
  conn->active = 0;
  conn->peer_streams = 0;
  conn->errors = 0;
  conn->checks_failed = 0;
  conn->checks_passed = 0;
  conn->uses = 0;
  conn->handle = 0;
  conn->dial_began = now;
  conn->timings = DialTimings{};
  ++counts_[static_cast<int>(ConnState::kDialing)];
  ++records_;
  target_->OnAdded(ConnState::kDialing);
  target_->OnDialBegun(now);
  target_->OnRecords(1);
  Place(conn);
  shard_->outbox.push_back(DialEffect{shard_->ids.Encode(*conn), key_});
}

void HostPool::Dialed(Connection* conn, const Established& established,
                      Instant now) {
  shard_->shared->dials.Return();
  target_->OnDialed(*key_, established, now);
  conn->unproven = true;
  if (!ended_early_) EndFailures();
  const TargetConfig& config = target_->config();
  const double jitter =
      1 + config.lifetime_jitter * (2 * shard_->random.NextDouble() - 1);
  const Duration lifetime(static_cast<int64_t>(
      static_cast<double>(config.max_lifetime.count()) * jitter));
  conn->handle = established.handle;
  conn->timings = established.timings;
  conn->peer_streams = established.max_streams;
  conn->limit = LimitOf(*conn);
  conn->multiplexed = conn->limit > 1;
  conn->ready_since = now;
  conn->retire_at = SaturatingAdd(now, lifetime);
  conn->idle_since = now;
  UseChecked(conn, now);
  if (target_->no_reuse()) {
    // Unused, it is as good as any.
    conn->lend_until = std::min(
        conn->retire_at, SaturatingAdd(now, target_->config().check_interval));
  }
  SetState(conn, ConnState::kReady);
  // One more may free an older one from the warm floor.
  if (is_default_) shard_->shared->connections.SearchAgain();
  if (shard_->shutdown) {
    Close(conn, CloseReason::kShutdown);
  } else {
    Offer(conn, now);
    // One that never rests has an age, too.
    if (conn->state == ConnState::kReady && conn->active > 0) {
      SetTimer(conn, now);
    }
  }
}

void HostPool::DialFailed(Connection* conn, const DialError& error,
                          Instant now) {
  shard_->shared->dials.Return();
  const Instant began = conn->dial_began;
  Uncount(conn);
  Free(conn);
  StartBackoff(began, now);
  const bool hope = standing() > 0 || count(ConnState::kDialing) > 0 ||
                    count(ConnState::kDraining) > 0;
  if (!hope) RejectAll(RejectReason::kDialFailed, now, &error);
}

void HostPool::EndedEarly(Connection* conn, const DialError& error,
                          Instant now) {
  if (!conn->unproven) return;
  conn->unproven = false;
  ended_early_ = true;
  target_->OnEndedEarly(error, conn->dial_began, now);
  StartBackoff(conn->dial_began, now);
  // Who waits goes on waiting, for the next dial or the breaker's word: a
  // caller whose request ended this one must not end the calls of others.
}

void HostPool::Prove(Connection* conn) {
  if (!conn->unproven) return;
  conn->unproven = false;
  target_->OnProved();
  if (ended_early_) EndFailures();
}

void HostPool::EndFailures() {
  dial_failures_ = 0;
  backoff_until_ = Instant{};
  ended_early_ = false;
}

void HostPool::StartBackoff(Instant dial_began, Instant now) {
  // Dials that ran side by side failed once, not several times in a row.
  if (dial_failures_ > 0 && dial_began < failed_at_) return;
  ++dial_failures_;
  failed_at_ = now;
  const TargetConfig& config = target_->config();
  const int doublings = std::min(dial_failures_ - 1, kMaxBackoffDoublings);
  const double most =
      std::min(static_cast<double>(config.dial_backoff_base.count()) *
                   static_cast<double>(int64_t{1} << doublings),
               static_cast<double>(config.dial_backoff_cap.count()));
  backoff_until_ =
      now + Duration(static_cast<int64_t>(most * shard_->random.NextDouble()));
  WakeBy(backoff_until_);
}

void HostPool::Closed(Connection* conn, CloseReason reason,
                      const DialError* early, Instant now) {
  if (conn->gone || conn->state == ConnState::kDialing) return;
  early != nullptr ? EndedEarly(conn, *early, now) : Prove(conn);
  const Duration idle = reason == CloseReason::kPeerClosed
                            ? IdleWhenClosed(*conn, now)
                            : Duration(0);
  CloseReason counted = conn->close_asked ? conn->reason : reason;
  TargetCounters& counters = target_->counters();
  if (conn->state == ConnState::kProbing && conn->recheck_at == kNever) {
    // It ended by its check. The check's own answer comes too late to count.
    ++counters.probes_failed;
    if (counted == CloseReason::kError || counted == CloseReason::kDeadline) {
      counted = CloseReason::kProbeFailed;
    }
  }
  ++counters.closed[static_cast<int>(counted)];
  Uncount(conn);
  if (conn->active == 0) {
    Free(conn);
  } else {
    conn->gone = true;
    shard_->timers.Cancel(&conn->timer);
    Place(conn);
  }
  if (idle > Duration(0)) target_->OnClosedIdle(idle, now);
  if (reason == CloseReason::kUnsolicited) target_->OnUnsolicited(now);
}

void HostPool::Probed(Connection* conn, bool passed, Instant now) {
  if (conn->gone || conn->state != ConnState::kProbing) return;
  TargetCounters& counters = target_->counters();
  ++(passed ? counters.probes_passed : counters.probes_failed);
  if (!passed) {
    CountError(conn);
    if (conn->state != ConnState::kProbing) return;  // One error too many.
  }
  if (!conn->multiplexed) {
    if (!CountCheck(conn, passed)) return Doubt(conn, now);
    if (!passed) return Close(conn, CloseReason::kProbeFailed);
  }
  UseProbed(conn, now);
  SetState(conn, ConnState::kReady);
  Place(conn, /*last=*/true);
  Offer(conn, now);
}

void HostPool::ConcurrencyChanged(Connection* conn, int max_streams,
                                  Instant now) {
  if (conn->gone || conn->state == ConnState::kDialing) return;
  conn->peer_streams = max_streams;
  conn->limit = LimitOf(*conn);
  if (conn->limit > 1) conn->multiplexed = true;
  Place(conn);
  if (has_waiters()) Serve(now);
}

void HostPool::GoAway(Connection* conn, const DialError* early, Instant now) {
  if (conn->gone) return;
  if (early != nullptr) EndedEarly(conn, *early, now);
  const Duration idle = IdleWhenClosed(*conn, now);
  if (conn->state == ConnState::kReady || conn->state == ConnState::kProbing) {
    Drain(conn, CloseReason::kPeerClosed);
  }
  if (idle > Duration(0)) target_->OnClosedIdle(idle, now);
}

void HostPool::ErrorCounted(Connection* conn) {
  if (conn->gone || conn->state == ConnState::kDialing) return;
  ++target_->counters().errors_counted;
  CountError(conn);
}

void HostPool::CountError(Connection* conn) {
  ++conn->errors;
  if (conn->errors <= target_->config().max_errors) return;
  if (conn->state == ConnState::kReady || conn->state == ConnState::kProbing) {
    Drain(conn, CloseReason::kProbeFailed);
  }
}

void HostPool::OnTimer(Connection* conn, Instant now) {
  const bool idle = IsIdle(*conn);
  const bool probing = conn->state == ConnState::kProbing;
  if (conn->gone || (!probing && conn->state != ConnState::kReady)) return;
  if (now - conn->ready_since >= kProbation) Prove(conn);
  if (now >= conn->retire_at) {
    Drain(conn, CloseReason::kLifetime);
  } else if (idle && !AtFloor() &&
             (WornOut(*conn, now) ||
              now - conn->idle_since >= target_->config().idle_timeout)) {
    Close(conn,
          target_->no_reuse() ? CloseReason::kNoReuse : CloseReason::kIdle);
  } else if (idle && now >= conn->lend_until) {
    PutAside(conn, now);
  } else if (probing && now >= conn->recheck_at) {
    StartProbe(conn);
  } else {
    SetTimer(conn, now);
  }
}

int HostPool::LimitOf(const Connection& conn) const {
  const int most =
      key_->mode == Mode::kExclusive ? 1 : target_->config().max_streams;
  return std::max(0, std::min(conn.peer_streams, most));
}

void HostPool::StartProbe(Connection* conn) {
  SetState(conn, ConnState::kProbing);
  conn->recheck_at = kNever;
  SetTimer(conn, Instant{});  // For its lifetime alone.
  shard_->outbox.push_back(
      ProbeEffect{shard_->ids.Encode(*conn), conn->handle, key_});
}

void HostPool::Drain(Connection* conn, CloseReason reason) {
  if (conn->active == 0) {
    Close(conn, reason);
    return;
  }
  conn->reason = reason;
  conn->close_asked = true;
  SetState(conn, ConnState::kDraining);
}

void HostPool::Close(Connection* conn, CloseReason reason, bool claimed) {
  conn->reason = reason;
  conn->close_asked = true;
  if (!claimed) shard_->shared->connections.ExpectReturn();
  SetState(conn, ConnState::kClosing);
  shard_->timers.Cancel(&conn->timer);
  shard_->outbox.push_back(
      CloseEffect{shard_->ids.Encode(*conn), conn->handle, reason});
}

Connection* HostPool::OldestIdle() const {
  Connection* used = idle_.back();
  Connection* unused = fresh_.back();
  if (used == nullptr) return unused;
  if (unused == nullptr) return used;
  return unused->idle_since < used->idle_since ? unused : used;
}

Connection* HostPool::OldestShared() const {
  Connection* oldest = nullptr;
  ForEachConnection([&oldest](Connection& conn) {
    if (conn.gone || conn.state != ConnState::kReady || !conn.multiplexed) {
      return;
    }
    if (oldest == nullptr || conn.ready_since < oldest->ready_since) {
      oldest = &conn;
    }
  });
  return oldest;
}

void HostPool::SetState(Connection* conn, ConnState state) {
  --counts_[static_cast<int>(conn->state)];
  ++counts_[static_cast<int>(state)];
  target_->OnStateChange(conn->state, state);
  conn->state = state;
  Place(conn);
}

// It no longer counts against any limit.
void HostPool::Uncount(Connection* conn) {
  const bool expected = conn->state == ConnState::kClosing;
  --counts_[static_cast<int>(conn->state)];
  target_->OnRemoved(conn->state);
  shard_->shared->connections.Return(expected);
}

void HostPool::Free(Connection* conn) {
  conn->Link<InPool>::Unlink();
  if (conn->Link<InIdleOrder>::linked()) {
    conn->Link<InIdleOrder>::Unlink();
    target_->OnIdle(-1);
  }
  shard_->timers.Cancel(&conn->timer);
  --records_;
  target_->OnRecords(-1);
  shard_->connections.Free(conn);
}

// --- Numbers ---

SizingNumbers HostPool::Numbers(Instant now) const {
  const TargetConfig& config = target_->config();
  return {.waiters = line_length_,
          .new_only_waiters = new_line_length_,
          .floor_missing = FloorMissing(),
          .dialing = count(ConnState::kDialing),
          .streams = target_->ExpectedStreams(*key_),
          .connection_room = config.max_connections - target_->total(),
          .dial_room = config.max_dials - target_->count(ConnState::kDialing),
          .backing_off = BackingOff(now) || target_->breaker().Bars(now)};
}

int HostPool::Wanted(Instant now) const {
  return ConnectionsWanted(Numbers(now));
}

bool HostPool::AtFloor() const {
  return is_default_ && standing() <= target_->floor();
}

int HostPool::FloorMissing() const {
  if (!is_default_) return 0;
  return std::max(0, target_->floor() - standing());
}

bool HostPool::Removable(Instant now) const {
  return records_ == 0 && !has_waiters() && !BackingOff(now) && !is_default_;
}

// --- Upkeep ---

void HostPool::Reconfigure(Instant now) {
  std::vector<Connection*> ready;  // The lists change only after the walk.
  ForEachConnection([&](Connection& conn) {
    if (conn.gone || conn.state == ConnState::kDialing) return;
    conn.limit = LimitOf(conn);
    if (conn.limit > 1) conn.multiplexed = true;
    UseProbed(&conn, conn.checked_at);
    if (conn.state == ConnState::kReady) ready.push_back(&conn);
  });
  // From the one used last to the one used first: their order stays.
  for (Connection* conn : ready) {
    Place(conn, /*last=*/true);
    SetTimer(conn, now);
  }
  if (has_waiters()) Serve(now);
  shard_->shared->connections.SearchAgain();
}

void HostPool::Shutdown(Instant now) {
  RejectAll(RejectReason::kShutdown, now);
  ForEachConnection([this](Connection& conn) {
    if (conn.gone) return;
    if (conn.state == ConnState::kReady || conn.state == ConnState::kProbing) {
      Drain(&conn, CloseReason::kShutdown);
    }
  });
}

}  // namespace hotline::pool
