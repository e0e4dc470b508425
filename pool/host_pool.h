// A HostPool holds interchangeable connections, which share a HostPoolKey, and
// the line of callers that wait for one of them.
//
// A HostPool takes events with the time in them, changes its records, and
// appends what the transport and the waiters are to be told to the shard's
// outbox. It never calls out. For example, a borrower that finds nothing idle:
//
//   ConnRecord* conn = pool->FindLendable(false, home, now);  // Null.
//   pool->Join(request, now);            // Waits in line.
//   target->Settle(now);                 // Calls pool->BeginDial(now).
//   ...
//   pool->Dialed(conn, established, now);  // Serves the line: GrantEffect.
//
// After each event the Target is settled (Target::Settle); that is where all
// dials come from, except speculative ones.
//
// A Ready connection with a free slot is in one of the three lists of
// Lendable. All others are in unlendable_. An unused connection serves the
// older one of the two heads of the line (wait_line.h), a used one the waiters
// that accept any.
//
// Where the transport has several loops, each has a Home with lists of its own
// connections. They are lent first to callers on that loop, then any, in the
// same order. A dial is placed on the loop whose callers lack a connection
// most; a shared connection of another loop is lent while one for the caller's
// own loop is dialled, if it has none and the limits allow one.
//
// Thread safety: none; guarded by the shard's mutex. The functions of the hot
// path are inline, in hot_path.h.
//
// Invariants, between events:
//   1. No waiter is in line that a connection in the three lists could serve.
//   2. A connection is lent only if it is Ready, has a free slot, and, if idle,
//      was used or checked recently enough (ConnRecord::lend_until).
//   3. A connection is in the shard's idle order if and only if it is Ready,
//      not gone, and has no lease.
//   4. A gone connection has at least one lease, and counts against no limit.
#ifndef HOTLINE_POOL_HOST_POOL_H_
#define HOTLINE_POOL_HOST_POOL_H_

#include <array>
#include <cstddef>
#include <memory>

#include "base/time.h"
#include "pool/dial_backoff.h"
#include "pool/list.h"
#include "pool/records.h"
#include "pool/shard_state.h"
#include "pool/sizing.h"
#include "pool/types.h"
#include "pool/wait_line.h"

namespace hotline::pool {

class Target;

class HostPool {
 public:
  HostPool(ShardState* shard, Target* target,
           std::shared_ptr<const HostPoolKey> key, uint64_t hash);
  ~HostPool();
  HostPool(const HostPool&) = delete;
  HostPool& operator=(const HostPool&) = delete;

  const HostPoolKey& key() const { return *key_; }
  const std::shared_ptr<const HostPoolKey>& shared_key() const { return key_; }
  uint64_t hash() const { return hash_; }
  bool Is(const HostPoolKey& key, uint64_t hash) const {
    return hash_ == hash && *key_ == key;
  }
  Target* target() const { return target_; }

  // --- Lending ---

  // Null: there is only one loop, or `loop` names none.
  Home* HomeOf(LoopIndex loop) const {
    return loop < home_count_ ? &homes_[loop] : nullptr;
  }

  // Returns the best connection with a free slot for a caller at `home`, or
  // null. Sends idle connections that are due for a check to it on the way.
  ConnRecord* FindLendable(bool new_only, Home* home, Instant now);

  // A caller at `home` that is lent `conn` shares it with another loop although
  // its own could have one.
  bool WantsOwn(const ConnRecord& conn, const Home* home) const;

  // Lends a slot of `conn`, which has a free one. The caller sets the lease's
  // holder and request.
  Lease* Lend(ConnRecord* conn, Duration ttl, uint64_t secret, uint64_t owner,
              Home* home, Instant now);

  // Fills in all of the grant but its `dial` and `wait`.
  void FillGrant(const Lease& lease, Grant* grant) const;

  // Ends a lease: its slot goes to the first waiter, or becomes idle.
  void EndLease(Lease* lease, Outcome outcome, Instant now);

  // Ends a lease whose time is up.
  void Expire(Lease* lease, Instant now);

  // Reports an event of a lease.
  void Report(PoolEvent::Kind kind, const Lease& lease, Instant now);

  // Applies an outcome other than kOk to a connection.
  void ApplyOutcome(ConnRecord* conn, Outcome outcome);

  // --- The line ---

  Waiting* Join(const AcquireRequest& request, Instant now);
  // Its caller runs at `home` from now on.
  void MoveTo(Waiting* waiting, Home* home);
  // Leaves the line, without an effect.
  void Leave(Waiting* waiting);
  // Leaves the line and rejects the caller.
  void Reject(Waiting* waiting, RejectReason reason, Instant now,
              const DialError* error = nullptr);
  void RejectAll(RejectReason reason, Instant now,
                 const DialError* error = nullptr);
  // Rejects the waiters that only a dial could serve. To be called while the
  // breaker bars dials.
  void RejectHopeless(Instant now);
  // Lends free slots to the waiters.
  void Serve(Instant now);

  bool has_waiters() const { return !line_.empty(); }
  int waiters() const { return line_.length(); }
  // The position of the oldest waiter in the shard's order of arrivals;
  // UINT64_MAX: there is none.
  uint64_t OldestOrder() const;
  // When the oldest waiter arrived; `now`: there is none.
  Instant OldestArrival(Instant now) const;
  bool WantsUnused() const { return line_.new_only_length() > 0; }

  // --- Events of connections ---

  // `home`: where; null: on the loop that lacks a connection most, if any.
  void BeginDial(Home* home, Instant now);
  void Dialed(ConnRecord* conn, const Established& established, Instant now);
  void DialFailed(ConnRecord* conn, const DialError& error, Instant now);
  void Closed(ConnRecord* conn, CloseReason reason, const DialError* early,
              Instant now);
  // The connection has served, or passed the time of its probation.
  void Prove(ConnRecord* conn, Instant now);
  void Probed(ConnRecord* conn, bool passed, Instant now);
  void ConcurrencyChanged(ConnRecord* conn, int max_streams, Instant now);
  void GoAway(ConnRecord* conn, const DialError* early, Instant now);
  void ErrorCounted(ConnRecord* conn);
  void OnTimer(ConnRecord* conn, Instant now);

  // Asks the transport to close it. `claimed`: the return of its budget token
  // is announced already.
  void Close(ConnRecord* conn, CloseReason reason, bool claimed = false);
  // Stops lending it, and closes it when its last lease ends.
  void Drain(ConnRecord* conn, CloseReason reason);
  // Closes an open connection at once, or when its last lease ends. False: it
  // is not open.
  bool Evict(ConnRecord* conn, bool at_once);
  // Evicts all that are open.
  void DrainAll(CloseReason reason);
  // Starts to replace the connections that are open now; returns how many. A
  // new one is dialled before an old one is drained, one after the other;
  // without room for another connection an old one goes first.
  int StartRenewal(Instant now);
  // Drains what has been replaced. False: nothing is left to do.
  bool StepRenewal(Instant now);
  // The row of failed dials is over.
  void EndFailures();
  // The longest idle connection, or null.
  ConnRecord* OldestIdle() const;
  // The oldest multiplexed connection that is Ready, idle or not; or null.
  ConnRecord* OldestShared() const;

  // --- Numbers ---

  // Dials wanted now for waiters and the warm floor, limits not considered.
  int Wanted(Instant now) const;
  SizingNumbers Numbers(Instant now) const;
  int count(ConnState state) const { return counts_[static_cast<int>(state)]; }
  // Connections that can serve now or after their check.
  int standing() const {
    return count(ConnState::kReady) + count(ConnState::kProbing);
  }
  // No connection can serve, now or after a dial or check.
  bool HoldsNothing() const {
    return standing() + count(ConnState::kDialing) == 0;
  }
  // Closing one more connection would break the warm floor.
  bool AtFloor() const;
  int FloorMissing() const;
  const DialBackoff& backoff() const { return backoff_; }
  // While no dial may begin: a waiter (for an unused connection, if `new_only`)
  // cannot be served by the existing connections.
  bool Hopeless(bool new_only) const {
    return count(ConnState::kDialing) == 0 && (new_only || standing() == 0);
  }
  // It holds nothing, and nothing has to be remembered.
  bool Removable(Instant now) const;

  // --- Settings and time ---

  // Makes the HostPool's timer fire by `when`.
  void WakeBy(Instant when) { shard_->FireBy(&timer_, when); }
  // Applies changed settings or idle times of the target.
  void Reconfigure(Instant now);
  void Shutdown(Instant now);

 private:
  friend class Inspector;
  using ConnectionList = List<ConnRecord, InPool>;

  // Calls visit(ConnRecord&) for each connection, including gone ones.
  template <typename Visit>
  void ForEachConnection(Visit&& visit) const;
  bool IsIdle(const ConnRecord& conn) const {
    return conn.state == ConnState::kReady && conn.active == 0 && !conn.gone;
  }
  void SetState(ConnRecord* conn, ConnState state);
  // Puts it into the list it belongs to; `last`: at the end of it.
  void Place(ConnRecord* conn, bool last = false);
  template <typename Tag>
  ConnRecord* FindIn(Lendable<Tag>* lists, bool new_only, Instant now);
  ConnRecord* FindAtHome(Home* home, bool new_only, Instant now);
  // The same as Place, in the lists of its loop. REQUIRES: it has a home.
  void PlaceAtHome(ConnRecord* conn, bool last);
  // A caller at `home` is lent another loop's connection, or gives it back.
  void BeginCrossLoop(Lease* lease, Home* home);
  void EndCrossLoop(const Lease& lease);
  // Counts a connection at its home, or not any more.
  void CountAtHome(const ConnRecord& conn, int change);
  Home* LackingHome() const;
  void SlotReturned(ConnRecord* conn, Instant now);
  void Offer(ConnRecord* conn, Instant now);
  void BecomeIdle(ConnRecord* conn, Instant now);
  bool CloseForBudget(ConnRecord* conn);
  // A check is also a use for the upstream: on HTTP/1.1 it is a request.
  bool CheckCountsAsUse(const ConnRecord& conn) const;
  // How long the upstream saw the connection idle when it closed it. Zero if
  // that says nothing about its idle timeout.
  Duration IdleWhenClosed(const ConnRecord& conn, Instant now) const;
  // It has been idle for so long that the upstream is about to close it.
  bool PastUsableIdle(const ConnRecord& conn, Instant now) const;
  void CheckOrClose(ConnRecord* conn, Instant now);
  // Sets lend_until after a use (or a new connection) and after a check.
  void MarkUsed(ConnRecord* conn, Instant now);
  void MarkChecked(ConnRecord* conn, Instant checked_at);
  // True: the check decides whether the connection can be lent. False: it has
  // to be checked again.
  bool CheckDecides(ConnRecord* conn, bool passed);
  void ScheduleRecheck(ConnRecord* conn, Instant now);
  void StartProbe(ConnRecord* conn);
  void CountError(ConnRecord* conn);
  void SetTimer(ConnRecord* conn, Instant now);
  int LimitOf(const ConnRecord& conn) const;
  // A new connection's lifetime: the configured one, with jitter.
  Duration DrawLifetime();
  void Uncount(ConnRecord* conn);
  void Free(ConnRecord* conn);
  void RejectOverdue(Instant now);
  void GrantTo(Waiting* waiting, ConnRecord* conn, Instant now);
  template <typename Tag>
  ConnRecord* FirstUsable(List<ConnRecord, Tag>* list, Instant now);
  void StartBackoff(Instant dial_began, Instant now);
  // Of the connections to be replaced, the one to drain next: an idle one if
  // there is one, the oldest. Null: none is left.
  ConnRecord* NextToRenew() const;
  // While the target is paused: leaves an idle connection unchecked.
  void LeaveUnchecked(ConnRecord* conn, Instant now);
  // Its dial counts as failed: see kProbation.
  void EndedEarly(ConnRecord* conn, const DialError& error, Instant now);
  void Report(PoolEvent event, const ConnRecord& conn);
  void ReportFailure(const ConnRecord& conn, const DialError& error);

  ShardState* const shard_;
  Target* const target_;
  const std::shared_ptr<const HostPoolKey> key_;
  const uint64_t hash_;
  const bool is_default_;  // It has the warm floor.

  Lendable<InPool> lendable_;
  const std::unique_ptr<Home[]> homes_;  // By loop.
  const int home_count_;                 // 0 with a single loop.
  ConnectionList unlendable_;
  std::array<int, kConnStates> counts_{};
  int records_ = 0;  // Connections, including gone ones.

  WaitLine line_;

  DialBackoff backoff_;
  // One of the failures in a row was a connection that ended on probation: the
  // row ends only when a connection has passed it.
  bool ended_early_ = false;
  // Connections established before this time are being replaced.
  Instant renew_before_{};
  bool renewing_ = false;
  // New connections less old ones drained for them; negative: an old one went
  // first.
  int renewed_ = 0;
  PoolTimer timer_{this};
};

template <typename Visit>
void HostPool::ForEachConnection(Visit&& visit) const {
  for (const auto* list :
       {&lendable_.partial, &lendable_.idle, &lendable_.fresh, &unlendable_}) {
    for (ConnRecord* conn = list->front(); conn != nullptr;) {
      ConnRecord* const next = list->Next(conn);
      visit(*conn);
      conn = next;
    }
  }
}

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_HOST_POOL_H_
