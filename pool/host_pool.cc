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

// How soon a connection is checked again after a failed check.
constexpr Duration kRecheck = std::chrono::seconds(1);

}  // namespace

HostPool::HostPool(ShardState* shard, Target* target,
                   std::shared_ptr<const HostPoolKey> key, uint64_t hash)
    : shard_(shard),
      target_(target),
      key_(std::move(key)),
      hash_(hash),
      is_default_(key_->mode == target->config().default_mode &&
                  key_->options == ConnectionOptions{}),
      homes_(shard->shared->loops > 1
                 ? std::make_unique<Home[]>(shard->shared->loops)
                 : nullptr),
      home_count_(homes_ != nullptr ? shard->shared->loops : 0) {
  for (int i = 0; i < home_count_; ++i) {
    homes_[i].loop = static_cast<LoopIndex>(i);
  }
}

HostPool::~HostPool() {
  shard_->timers.Cancel(&timer_);
  ForEachConnection([this](ConnRecord& conn) {
    conn.Link<InPool>::Unlink();
    conn.Link<AtHome>::Unlink();
    conn.Link<InIdleOrder>::Unlink();
    shard_->timers.Cancel(&conn.timer);
  });
  line_.ForEach([this](Waiting* waiting) {
    line_.Leave(waiting);
    shard_->timers.Cancel(&waiting->timer);
  });
}

// --- Lending ---

template <typename Tag>
ConnRecord* HostPool::FirstUsable(List<ConnRecord, Tag>* list, Instant now) {
  while (ConnRecord* conn = list->front()) {
    if (now < conn->lend_until) return conn;
    // Its timer is late, which must not let it be lent.
    if (now >= conn->retire_at) {
      Close(conn, CloseReason::kLifetime);
    } else {
      CheckOrClose(conn, now);
    }
  }
  return nullptr;
}

template ConnRecord* HostPool::FirstUsable(List<ConnRecord, InPool>* list,
                                           Instant now);
template ConnRecord* HostPool::FirstUsable(List<ConnRecord, AtHome>* list,
                                           Instant now);

void HostPool::Expire(Lease* lease, Instant now) {
  ConnRecord* conn = lease->conn;
  ++target_->counters().leases_expired;
  Report(PoolEvent::Kind::kLeaseExpired, *lease, now);
  // The state in which the borrower left it is unknown.
  if (!conn->multiplexed && !conn->gone && conn->state != ConnState::kClosing) {
    Close(conn, CloseReason::kExpired);
  }
  EndLease(lease, Outcome::kOk, now);
}

// Closes an idle connection if another target needs its token.
bool HostPool::CloseForBudget(ConnRecord* conn) {
  const Budget::Claim claim = shard_->shared->connections.ClaimIdle(AtFloor());
  if (claim == Budget::Claim::kNo) return false;
  Close(conn,
        claim == Budget::Claim::kOverCap ? CloseReason::kShrunk
                                         : CloseReason::kReclaimed,
        /*claimed=*/true);
  return true;
}

void HostPool::ApplyOutcome(ConnRecord* conn, Outcome outcome) {
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

// --- The line ---

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
  waiting->info.place = line_.Join(waiting);
  target_->OnWaiters(1);
  waiting->home = nullptr;
  MoveTo(waiting, HomeOf(request.loop));
  shard_->FireBy(&waiting->timer, waiting->deadline);
  return waiting;
}

void HostPool::MoveTo(Waiting* waiting, Home* home) {
  if (waiting->home != nullptr) --waiting->home->waiters;
  waiting->home = home;
  if (home != nullptr) ++home->waiters;
}

void HostPool::Leave(Waiting* waiting) {
  MoveTo(waiting, nullptr);
  line_.Leave(waiting);
  target_->OnWaiters(-1);
  shard_->timers.Cancel(&waiting->timer);
  if (NamedAcquire* named = std::exchange(waiting->terms.named, nullptr)) {
    target_->EraseNamed(named);
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
  while (Waiting* head = line_.first()) Reject(head, reason, now, error);
}

void HostPool::RejectHopeless(Instant now) {
  line_.ForEach([this, now](Waiting* waiting) {
    if (Hopeless(waiting->new_only)) {
      Reject(waiting, RejectReason::kCircuitOpen, now);
    }
  });
}

void HostPool::RejectOverdue(Instant now) {
  const auto overdue = [now](const Waiting* head) {
    return head != nullptr && now >= head->deadline;
  };
  while (overdue(line_.first_any())) {
    Reject(line_.first_any(), RejectReason::kWaitTimeout, now);
  }
  while (overdue(line_.first_new_only())) {
    Reject(line_.first_new_only(), RejectReason::kWaitTimeout, now);
  }
}

void HostPool::Serve(Instant now) {
  while (true) {
    RejectOverdue(now);
    if (line_.empty()) return;
    Waiting* any = line_.first_any();
    Waiting* new_only = line_.first_new_only();
    const bool new_only_first = line_.first() == new_only;
    ConnRecord* conn = FindLendable(/*new_only=*/any == nullptr,
                                    (any ? any : new_only)->home, now);
    if (conn == nullptr) return;
    if (conn->uses == 0 && new_only_first) {
      GrantTo(new_only, FindLendable(/*new_only=*/true, new_only->home, now),
              now);
    } else if (conn->active == 0 &&
               (new_only_first ? target_->PlacesShort(now) > 0
                               : target_->OwesPlaceBefore(*any, now))) {
      // The waiter whose turn it is needs its place, for a new connection.
      Close(conn, CloseReason::kReclaimed);
    } else {
      GrantTo(any, conn, now);
    }
  }
}

void HostPool::GrantTo(Waiting* waiting, ConnRecord* conn, Instant now) {
  GrantEffect effect;
  effect.waiter = waiting->waiter;
  effect.grant.wait = waiting->info;
  effect.grant.wait.waited = std::max(Duration(0), now - waiting->arrived);
  effect.grant.wait.dials_in_flight = count(ConnState::kDialing);
  target_->counters().wait.Record(effect.grant.wait.waited);
  if (conn->uses == 0) effect.grant.dial = conn->timings;
  Lease* lease = Lend(conn, waiting->terms.ttl, waiting->terms.secret,
                      waiting->terms.owner, waiting->home, now);
  lease->holder = std::move(waiting->terms.holder);
  if (NamedAcquire* named = std::exchange(waiting->terms.named, nullptr)) {
    lease->named = named;
    named->waiting = nullptr;
    named->lease = lease;
  }
  Leave(waiting);
  FillGrant(*lease, &effect.grant);
  shard_->outbox.push_back(std::move(effect));
}

uint64_t HostPool::OldestOrder() const {
  const Waiting* head = line_.first();
  return head == nullptr ? UINT64_MAX : head->order;
}

Instant HostPool::OldestArrival(Instant now) const {
  const Waiting* head = line_.first();
  return head == nullptr ? now : head->arrived;
}

// --- Events of connections ---

ConnRecord* HostPool::FindAtHome(Home* home, bool new_only, Instant now) {
  return FindIn(&home->lendable, new_only, now);
}

void HostPool::PlaceAtHome(ConnRecord* conn, bool last) {
  conn->Link<AtHome>::Unlink();
  if (conn->state != ConnState::kReady || conn->gone ||
      conn->active >= conn->limit) {
    return;
  }
  Lendable<AtHome>& lists = conn->home->lendable;
  auto& list = conn->active > 0 ? lists.partial
               : conn->uses > 0 ? lists.idle
                                : lists.fresh;
  if (last) {
    list.PushBack(conn);
  } else {
    list.PushFront(conn);
  }
}

void HostPool::BeginCrossLoop(Lease* lease, Home* home) {
  lease->callers_home = home;
  ++home->leases_elsewhere;
  ++lease->conn->home->foreign_leases;
  ++target_->counters().cross_loop;
}

void HostPool::EndCrossLoop(const Lease& lease) {
  --lease.callers_home->leases_elsewhere;
  --lease.conn->home->foreign_leases;
}

// The loop whose callers lack a connection most, dials under way counted: their
// waiters, and their leases on other loops' connections less the reverse. Null:
// none lacks one.
Home* HostPool::LackingHome() const {
  const int streams = std::max(1, target_->ExpectedStreams(*key_));
  Home* best = nullptr;
  int most = 0;
  for (int i = 0; i < home_count_; ++i) {
    Home& home = homes_[i];
    const int lack = home.waiters + home.leases_elsewhere -
                     home.foreign_leases - home.dialing * streams;
    if (lack <= most) continue;
    most = lack;
    best = &home;
  }
  return best;
}

void HostPool::CountAtHome(const ConnRecord& conn, int change) {
  const bool counts = conn.state == ConnState::kDialing ||
                      conn.state == ConnState::kReady ||
                      conn.state == ConnState::kProbing;
  if (conn.home == nullptr || !counts) return;
  conn.home->connections += change;
  if (conn.state == ConnState::kDialing) conn.home->dialing += change;
}

void HostPool::BeginDial(Home* home, Instant now) {
  ConnRecord* conn = shard_->connections.Allocate();
  conn->pool = this;
  conn->home = home != nullptr ? home : LackingHome();
  conn->state = ConnState::kDialing;
  conn->gone = false;
  conn->multiplexed = false;
  conn->close_asked = false;
  conn->on_probation = false;
  conn->limit = 0;
  conn->active = 0;
  conn->peer_streams = 0;
  conn->errors = 0;
  conn->checks_failed = 0;
  conn->checks_passed = 0;
  conn->uses = 0;
  conn->dial_began = now;
  conn->timings = DialTimings{};
  ++counts_[static_cast<int>(ConnState::kDialing)];
  ++records_;
  target_->OnAdded(ConnState::kDialing);
  target_->OnDialBegun(now);
  target_->OnRecords(1);
  CountAtHome(*conn, 1);
  Place(conn);
  const LoopIndex loop = conn->home != nullptr ? conn->home->loop : kNoLoop;
  shard_->outbox.push_back(DialEffect{shard_->ids.Encode(*conn), key_, loop});
}

Duration HostPool::DrawLifetime() {
  const TargetConfig& config = target_->config();
  const double jitter =
      1 + config.lifetime_jitter * (2 * shard_->random.NextDouble() - 1);
  return Duration(static_cast<int64_t>(
      static_cast<double>(config.max_lifetime.count()) * jitter));
}

void HostPool::Dialed(ConnRecord* conn, const Established& established,
                      Instant now) {
  shard_->shared->dials.Return();
  target_->OnDialed(*key_, established, now);
  conn->on_probation = true;
  if (!ended_early_) EndFailures();
  if (home_count_ > 0) {
    CountAtHome(*conn, -1);
    conn->home = &homes_[established.loop < home_count_ ? established.loop : 0];
    CountAtHome(*conn, 1);
  }
  conn->timings = established.timings;
  conn->peer_streams = established.max_streams;
  conn->limit = LimitOf(*conn);
  conn->multiplexed = conn->limit > 1;
  conn->ready_since = now;
  conn->retire_at = SaturatingAdd(now, DrawLifetime());
  conn->idle_since = now;
  MarkUsed(conn, now);
  if (target_->health().no_reuse()) {
    // It has not served yet, so it may be lent.
    conn->lend_until = std::min(
        conn->retire_at, SaturatingAdd(now, target_->config().check_interval));
  }
  SetState(conn, ConnState::kReady);
  Report({.kind = PoolEvent::Kind::kReady, .length = now - conn->dial_began},
         *conn);
  // An older connection may now be above the warm floor.
  if (is_default_) shard_->shared->connections.SearchAgain();
  if (renewing_) ++renewed_;
  if (shard_->shutdown) {
    Close(conn, CloseReason::kShutdown);
  } else if (target_->admission() == Admission::kDrained) {
    Close(conn, CloseReason::kOperator);
  } else {
    Offer(conn, now);
    // Its lifetime ends even if it is never idle.
    if (conn->state == ConnState::kReady && conn->active > 0) {
      SetTimer(conn, now);
    }
  }
}

void HostPool::DialFailed(ConnRecord* conn, const DialError& error,
                          Instant now) {
  shard_->shared->dials.Return();
  const Instant began = conn->dial_began;
  ReportFailure(*conn, error);
  target_->OnDialFailed(error, /*early=*/false, began, now);
  Uncount(conn);
  Free(conn);
  StartBackoff(began, now);
  const bool hope = standing() > 0 || count(ConnState::kDialing) > 0 ||
                    count(ConnState::kDraining) > 0;
  if (!hope) RejectAll(RejectReason::kDialFailed, now, &error);
}

void HostPool::EndedEarly(ConnRecord* conn, const DialError& error,
                          Instant now) {
  if (!conn->on_probation) return;
  conn->on_probation = false;
  ended_early_ = true;
  ReportFailure(*conn, error);
  target_->OnDialFailed(error, /*early=*/true, conn->dial_began, now);
  StartBackoff(conn->dial_began, now);
  // The waiters keep waiting, for the next dial or until the breaker opens: a
  // caller whose request ended this connection must not fail the others.
}

void HostPool::Prove(ConnRecord* conn, Instant now) {
  if (!conn->on_probation) return;
  conn->on_probation = false;
  target_->OnProved(now);
  if (ended_early_) EndFailures();
}

void HostPool::EndFailures() {
  backoff_.Reset();
  ended_early_ = false;
}

void HostPool::StartBackoff(Instant dial_began, Instant now) {
  const TargetConfig& config = target_->config();
  if (backoff_.OnFailure(config.dial_backoff_base, config.dial_backoff_cap,
                         shard_->random.NextDouble(), dial_began, now)) {
    WakeBy(backoff_.until());
  }
}

void HostPool::Closed(ConnRecord* conn, CloseReason reason,
                      const DialError* early, Instant now) {
  if (conn->gone || conn->state == ConnState::kDialing) return;
  early != nullptr ? EndedEarly(conn, *early, now) : Prove(conn, now);
  const Duration idle = reason == CloseReason::kPeerClosed
                            ? IdleWhenClosed(*conn, now)
                            : Duration(0);
  CloseReason counted = conn->close_asked ? conn->reason : reason;
  TargetCounters& counters = target_->counters();
  if (conn->state == ConnState::kProbing && conn->recheck_at == kNever) {
    // The check ended it. The check's own answer will come too late to count.
    ++counters.probes_failed;
    if (counted == CloseReason::kError || counted == CloseReason::kDeadline) {
      counted = CloseReason::kProbeFailed;
    }
  }
  ++counters.closed[static_cast<int>(counted)];
  counters.age.Record((now - conn->ready_since) / kAgeScale);
  counters.uses.Record(static_cast<int64_t>(conn->uses) * kUse);
  Report({.kind = PoolEvent::Kind::kClosed,
          .closed = counted,
          .uses = conn->uses,
          .length = now - conn->ready_since},
         *conn);
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

void HostPool::Probed(ConnRecord* conn, bool passed, Instant now) {
  if (conn->gone || conn->state != ConnState::kProbing) return;
  TargetCounters& counters = target_->counters();
  ++(passed ? counters.probes_passed : counters.probes_failed);
  if (!passed) {
    CountError(conn);
    if (conn->state != ConnState::kProbing) return;  // One error too many.
  }
  if (!conn->multiplexed) {
    if (!CheckDecides(conn, passed)) return ScheduleRecheck(conn, now);
    if (!passed) return Close(conn, CloseReason::kProbeFailed);
  }
  MarkChecked(conn, now);
  SetState(conn, ConnState::kReady);
  Place(conn, /*last=*/true);
  Offer(conn, now);
}

void HostPool::Report(PoolEvent event, const ConnRecord& conn) {
  if (!shard_->observed()) return;
  event.key = key_;
  event.conn = shard_->ids.Encode(conn);
  shard_->outbox.push_back(std::move(event));
}

void HostPool::ReportFailure(const ConnRecord& conn, const DialError& error) {
  if (!shard_->observed()) return;
  Report({.kind = PoolEvent::Kind::kDialFailed,
          .reason = error.reason,
          .error = error.message},
         conn);
}

void HostPool::Report(PoolEvent::Kind kind, const Lease& lease, Instant now) {
  Report({.kind = kind,
          .length = now - lease.granted,
          .holder = lease.holder,
          .owner = lease.owner},
         *lease.conn);
}

void HostPool::ConcurrencyChanged(ConnRecord* conn, int max_streams,
                                  Instant now) {
  if (conn->gone || conn->state == ConnState::kDialing) return;
  conn->peer_streams = max_streams;
  conn->limit = LimitOf(*conn);
  if (conn->limit > 1) conn->multiplexed = true;
  Place(conn);
  if (has_waiters()) Serve(now);
}

void HostPool::GoAway(ConnRecord* conn, const DialError* early, Instant now) {
  if (conn->gone) return;
  if (early != nullptr) EndedEarly(conn, *early, now);
  const Duration idle = IdleWhenClosed(*conn, now);
  if (conn->state == ConnState::kReady || conn->state == ConnState::kProbing) {
    Drain(conn, CloseReason::kPeerClosed);
  }
  if (idle > Duration(0)) target_->OnClosedIdle(idle, now);
}

void HostPool::ErrorCounted(ConnRecord* conn) {
  if (conn->gone || conn->state == ConnState::kDialing) return;
  ++target_->counters().errors_counted;
  CountError(conn);
}

void HostPool::CountError(ConnRecord* conn) {
  ++conn->errors;
  if (conn->errors <= target_->config().max_errors) return;
  if (conn->state == ConnState::kReady || conn->state == ConnState::kProbing) {
    Drain(conn, CloseReason::kProbeFailed);
  }
}

void HostPool::OnTimer(ConnRecord* conn, Instant now) {
  const bool idle = IsIdle(*conn);
  const bool probing = conn->state == ConnState::kProbing;
  if (conn->gone || (!probing && conn->state != ConnState::kReady)) return;
  if (now - conn->ready_since >= kProbation) Prove(conn, now);
  if (now >= conn->retire_at) {
    Drain(conn, CloseReason::kLifetime);
  } else if (idle && !AtFloor() &&
             (PastUsableIdle(*conn, now) ||
              now - conn->idle_since >= target_->config().idle_timeout)) {
    Close(conn, target_->health().no_reuse() ? CloseReason::kNoReuse
                                             : CloseReason::kIdle);
  } else if (idle && target_->admission() == Admission::kPaused) {
    LeaveUnchecked(conn, now);
  } else if (idle && now >= conn->lend_until) {
    CheckOrClose(conn, now);
  } else if (probing && now >= conn->recheck_at) {
    StartProbe(conn);
  } else {
    SetTimer(conn, now);
  }
}

int HostPool::LimitOf(const ConnRecord& conn) const {
  if (target_->admission() == Admission::kPaused) return 0;
  const int most =
      key_->mode == Mode::kExclusive ? 1 : target_->config().max_streams;
  return std::max(0, std::min(conn.peer_streams, most));
}

void HostPool::StartProbe(ConnRecord* conn) {
  SetState(conn, ConnState::kProbing);
  conn->recheck_at = kNever;
  SetTimer(conn, Instant{});  // For its lifetime only.
  shard_->outbox.push_back(ProbeEffect{shard_->ids.Encode(*conn), key_});
}

void HostPool::Drain(ConnRecord* conn, CloseReason reason) {
  if (conn->active == 0) {
    Close(conn, reason);
    return;
  }
  conn->reason = reason;
  conn->close_asked = true;
  SetState(conn, ConnState::kDraining);
}

void HostPool::Close(ConnRecord* conn, CloseReason reason, bool claimed) {
  conn->reason = reason;
  conn->close_asked = true;
  if (!claimed) shard_->shared->connections.ExpectReturn();
  SetState(conn, ConnState::kClosing);
  shard_->timers.Cancel(&conn->timer);
  shard_->outbox.push_back(CloseEffect{shard_->ids.Encode(*conn), reason});
}

ConnRecord* HostPool::OldestIdle() const {
  ConnRecord* used = lendable_.idle.back();
  ConnRecord* unused = lendable_.fresh.back();
  if (used == nullptr) return unused;
  if (unused == nullptr) return used;
  return unused->idle_since < used->idle_since ? unused : used;
}

ConnRecord* HostPool::OldestShared() const {
  ConnRecord* oldest = nullptr;
  ForEachConnection([&oldest](ConnRecord& conn) {
    if (conn.gone || conn.state != ConnState::kReady || !conn.multiplexed) {
      return;
    }
    if (oldest == nullptr || conn.ready_since < oldest->ready_since) {
      oldest = &conn;
    }
  });
  return oldest;
}

void HostPool::SetState(ConnRecord* conn, ConnState state) {
  --counts_[static_cast<int>(conn->state)];
  ++counts_[static_cast<int>(state)];
  target_->OnStateChange(conn->state, state);
  CountAtHome(*conn, -1);
  conn->state = state;
  CountAtHome(*conn, 1);
  Place(conn);
}

// Stops counting it against the limits.
void HostPool::Uncount(ConnRecord* conn) {
  const bool expected = conn->state == ConnState::kClosing;
  --counts_[static_cast<int>(conn->state)];
  CountAtHome(*conn, -1);
  target_->OnRemoved(conn->state);
  shard_->shared->connections.Return(expected);
}

void HostPool::Free(ConnRecord* conn) {
  conn->Link<InPool>::Unlink();
  conn->Link<AtHome>::Unlink();
  if (conn->Link<InIdleOrder>::linked()) {
    conn->Link<InIdleOrder>::Unlink();
    target_->OnIdle(-1);
  }
  shard_->timers.Cancel(&conn->timer);
  --records_;
  target_->OnRecords(-1);
  shard_->connections.Free(conn);
}

// --- Idleness and checks ---

bool HostPool::CheckCountsAsUse(const ConnRecord& conn) const {
  return target_->config().probe == ProbeKind::kHttp && !conn.multiplexed;
}

bool HostPool::PastUsableIdle(const ConnRecord& conn, Instant now) const {
  const Instant counted =
      CheckCountsAsUse(conn) ? conn.checked_at : conn.idle_since;
  return now >= SaturatingAdd(counted, target_->health().usable_idle());
}

// An idle connection must not be lent as it is: checks it, or closes it if that
// cannot help.
void HostPool::CheckOrClose(ConnRecord* conn, Instant now) {
  const bool no_reuse = target_->health().no_reuse();
  if (PastUsableIdle(*conn, now) &&
      (no_reuse || !AtFloor() || !CheckCountsAsUse(*conn))) {
    Close(conn, no_reuse ? CloseReason::kNoReuse : CloseReason::kIdle);
  } else {
    StartProbe(conn);
  }
}

void HostPool::MarkChecked(ConnRecord* conn, Instant checked_at) {
  MarkUsed(conn, checked_at);
  if (CheckCountsAsUse(*conn)) return;
  conn->lend_until = std::min(
      conn->lend_until,
      SaturatingAdd(conn->idle_since, target_->health().usable_idle()));
}

Duration HostPool::IdleWhenClosed(const ConnRecord& conn, Instant now) const {
  // How long it waits for the first request is a different timeout.
  if (!IsIdle(conn) || conn.uses == 0) return Duration(0);
  const bool checked = conn.checked_at > conn.idle_since;
  if (checked && !CheckCountsAsUse(conn)) return Duration(0);
  return now - conn.checked_at;
}

bool HostPool::CheckDecides(ConnRecord* conn, bool passed) {
  const TargetConfig& config = target_->config();
  if (!passed) {
    conn->checks_passed = 0;
    return ++conn->checks_failed >= config.probe_fall;
  }
  if (conn->checks_failed == 0) return true;
  if (++conn->checks_passed < config.probe_rise) return false;
  conn->checks_failed = conn->checks_passed = 0;
  return true;
}

void HostPool::ScheduleRecheck(ConnRecord* conn, Instant now) {
  conn->recheck_at = SaturatingAdd(now, kRecheck);
  SetTimer(conn, now);
}

// --- Numbers ---

SizingNumbers HostPool::Numbers(Instant now) const {
  const TargetConfig& config = target_->config();
  return {.waiters = line_.any_length(),
          .new_only_waiters = line_.new_only_length(),
          .floor_missing = std::max(FloorMissing(), renewing_ ? 1 : 0),
          .dialing = count(ConnState::kDialing),
          .streams = target_->ExpectedStreams(*key_),
          .connection_room = config.max_connections - target_->total(),
          .dial_room = config.max_dials - target_->count(ConnState::kDialing),
          .backing_off = backoff_.active(now) ||
                         target_->health().breaker().Bars(now) ||
                         target_->admission() != Admission::kOpen};
}

int HostPool::Wanted(Instant now) const {
  return ConnectionsWanted(Numbers(now));
}

bool HostPool::AtFloor() const {
  return is_default_ && standing() <= target_->health().floor();
}

int HostPool::FloorMissing() const {
  if (!is_default_) return 0;
  return std::max(0, target_->health().floor() - standing());
}

bool HostPool::Removable(Instant now) const {
  return records_ == 0 && !has_waiters() && !backoff_.active(now) &&
         !is_default_;
}

// --- Settings ---

void HostPool::Reconfigure(Instant now) {
  std::vector<ConnRecord*> ready;  // Placed after the walk over the lists.
  ForEachConnection([&](ConnRecord& conn) {
    if (conn.gone || conn.state == ConnState::kDialing) return;
    conn.limit = LimitOf(conn);
    if (conn.limit > 1) conn.multiplexed = true;
    MarkChecked(&conn, conn.checked_at);
    if (conn.state == ConnState::kReady) ready.push_back(&conn);
  });
  // In the order of the walk, last used first, which keeps their order.
  for (ConnRecord* conn : ready) {
    Place(conn, /*last=*/true);
    SetTimer(conn, now);
  }
  if (has_waiters()) Serve(now);
  shard_->shared->connections.SearchAgain();
}

void HostPool::Shutdown(Instant now) {
  RejectAll(RejectReason::kShutdown, now);
  DrainAll(CloseReason::kShutdown);
}

}  // namespace hotline::pool
