// Interchangeable connections, and the line of those who wait for one.
#ifndef HOTLINE_POOL_HOST_POOL_H_
#define HOTLINE_POOL_HOST_POOL_H_

#include <array>
#include <cstddef>
#include <memory>

#include "base/time.h"
#include "pool/list.h"
#include "pool/records.h"
#include "pool/shard_state.h"
#include "pool/sizing.h"
#include "pool/types.h"

namespace hotline::pool {

class Target;

// A HostPool takes events with the time in them, changes its records, and
// appends what is to be done in the world to the shard's outbox. It never calls
// out. After an event its Target is settled (Target::Settle), which is where
// new dials come from.
//
// A Ready connection with a free slot is in one of three lists: partial_ (some
// slots lent; multiplexed only), idle_ (used, none lent; last used first) and
// fresh_ (never used). They are lent in that order. All others are in rest_.
//
// There are two lines: one for whoever takes any connection, one for those who
// insist on an unused one. A used connection serves the first; an unused one
// goes to the older of the two heads.
//
// Not thread-safe: guarded by the shard's mutex.
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

  // A connection with a free slot, the best one first; null if there is none.
  // Those that turn out to be due for a check are sent to it on the way.
  Connection* FindLendable(bool new_only, Instant now);

  // Lends a slot of `conn`, which has a free one.
  // Holder and request are the caller's to set.
  Lease* Lend(Connection* conn, Duration ttl, uint64_t secret, uint64_t owner,
              Instant now);

  // What the borrower is told, but for how it waited.
  void FillGrant(const Lease& lease, Grant* grant) const;

  // The lease is over: its slot goes to the first waiter, or rests.
  void EndLease(Lease* lease, Outcome outcome, Instant now);

  // Its time is up.
  void Expire(Lease* lease, Instant now);

  // What an outcome other than kOk does to a connection.
  void Judge(Connection* conn, Outcome outcome);

  // --- The lines ---

  Waiting* Join(const AcquireRequest& request, Instant now);
  // Leaves without being told.
  void Leave(Waiting* waiting);
  // Leaves, and is told why.
  void Reject(Waiting* waiting, RejectReason reason, Instant now,
              const DialError* error = nullptr);
  void RejectAll(RejectReason reason, Instant now,
                 const DialError* error = nullptr);
  // Gives what is free to those in line.
  void Serve(Instant now);

  bool has_waiters() const { return !line_.empty() || !new_line_.empty(); }
  int waiters() const { return line_length_ + new_line_length_; }
  // The place in the shard's order of whoever waits longest; UINT64_MAX: nobody
  // waits.
  uint64_t OldestOrder() const;
  Instant OldestArrival(Instant now) const;
  bool WantsUnused() const { return new_line_length_ > 0; }

  // --- Connections ---

  void BeginDial(Instant now);
  void Dialed(Connection* conn, const Established& established, Instant now);
  void DialFailed(Connection* conn, const DialError& error, Instant now);
  void Closed(Connection* conn, CloseReason reason, const DialError* early,
              Instant now);
  // Its dial has succeeded: the connection served, or stood for long enough.
  void Prove(Connection* conn);
  void Probed(Connection* conn, bool passed, Instant now);
  void ConcurrencyChanged(Connection* conn, int max_streams, Instant now);
  void GoAway(Connection* conn, const DialError* early, Instant now);
  void ErrorCounted(Connection* conn);
  void OnTimer(Connection* conn, Instant now);

  // Asks the transport to close it. `claimed`: the budget expects its token
  // already.
  void Close(Connection* conn, CloseReason reason, bool claimed = false);
  // Lends it no more, and closes it when its last lease ends.
  void Drain(Connection* conn, CloseReason reason);
  // The one that has been idle for longest; null if none is.
  Connection* OldestIdle() const;
  // The oldest of those that several share, which may never be idle; null if
  // there is none.
  Connection* OldestShared() const;

  // --- Numbers ---

  // Dials wanted now, for waiters and the warm floor; limits not regarded.
  int Wanted(Instant now) const;
  SizingNumbers Numbers(Instant now) const;
  int count(ConnState state) const { return counts_[static_cast<int>(state)]; }
  // Connections that can serve or soon will.
  int standing() const {
    return count(ConnState::kReady) + count(ConnState::kProbing);
  }
  // Nothing can serve, nor soon will.
  bool HoldsNothing() const {
    return standing() + count(ConnState::kDialing) == 0;
  }
  // Whether closing one more would break the warm floor.
  bool AtFloor() const;
  int FloorMissing() const;
  bool BackingOff(Instant now) const { return now < backoff_until_; }
  Instant backoff_until() const { return backoff_until_; }
  // While no dial may begin: somebody who waits here (for an unused connection,
  // with `new_only`) will never be served by what is there.
  bool Hopeless(bool new_only) const {
    return count(ConnState::kDialing) == 0 && (new_only || standing() == 0);
  }
  void RejectHopeless(Instant now);
  // Nothing is here and nothing needs to be remembered.
  bool Removable(Instant now) const;

  // --- Upkeep ---

  void WakeBy(Instant when) { shard_->FireBy(&timer_, when); }
  // Takes a changed TargetConfig.
  void Reconfigure(Instant now);
  void Shutdown(Instant now);
  // Calls visit(Connection&) for each, the gone ones included.
  template <typename Visit>
  void ForEachConnection(Visit&& visit) const;
  template <typename Visit>
  void ForEachWaiting(Visit&& visit) const;

 private:
  friend class Inspector;
  using ConnectionList = List<Connection, InPool>;

  bool IsIdle(const Connection& conn) const {
    return conn.state == ConnState::kReady && conn.active == 0 && !conn.gone;
  }
  void SetState(Connection* conn, ConnState state);
  // Puts it into the list it belongs to; `last`: behind those used later.
  void Place(Connection* conn, bool last = false);
  void Back(Connection* conn, Instant now);
  void Offer(Connection* conn, Instant now);
  void Rest(Connection* conn, Instant now);
  bool GiveUp(Connection* conn);
  // A check makes the upstream begin to count anew: on HTTP/1.1 it is a request
  // like any other.
  bool Refreshes(const Connection& conn) const;
  // For how long it had been unused, for all that the upstream saw, when that
  // closed it; zero: it says nothing of its patience.
  Duration IdleWhenClosed(const Connection& conn, Instant now) const;
  // It rested for so long that the upstream is about to close it.
  bool WornOut(const Connection& conn, Instant now) const;
  void PutAside(Connection* conn, Instant now);
  void UseProbed(Connection* conn, Instant checked_at);
  // True: what the check said settles it; else it stays in doubt.
  bool CountCheck(Connection* conn, bool passed);
  void Doubt(Connection* conn, Instant now);
  void StartProbe(Connection* conn);
  void CountError(Connection* conn);
  void UseChecked(Connection* conn, Instant checked_at);
  void SetTimer(Connection* conn, Instant now);
  int LimitOf(const Connection& conn) const;
  void Uncount(Connection* conn);
  void Free(Connection* conn);
  void RejectOverdue(List<Waiting, InLine>* line, Instant now);
  void GrantTo(Waiting* waiting, Connection* conn, Instant now);
  Connection* FirstFit(ConnectionList* list, Instant now);
  void StartBackoff(Instant dial_began, Instant now);
  void EndFailures();
  // Its dial has failed after all: see kProbation.
  void EndedEarly(Connection* conn, const DialError& error, Instant now);

  ShardState* const shard_;
  Target* const target_;
  const std::shared_ptr<const HostPoolKey> key_;
  const uint64_t hash_;
  const bool is_default_;  // The warm floor is kept here.

  ConnectionList partial_;
  ConnectionList idle_;
  ConnectionList fresh_;
  ConnectionList rest_;
  std::array<int, kConnStates> counts_{};
  int records_ = 0;  // Connections, the gone ones included.

  List<Waiting, InLine> line_;
  List<Waiting, InLine> new_line_;
  int line_length_ = 0;
  int new_line_length_ = 0;

  int dial_failures_ = 0;  // In a row.
  // One of them had made a connection: the next one that is made ends the row
  // only when it has proved itself.
  bool ended_early_ = false;
  Instant failed_at_{};
  Instant backoff_until_{};
  PoolTimer timer_{this};
};

template <typename Visit>
void HostPool::ForEachConnection(Visit&& visit) const {
  for (const ConnectionList* list : {&partial_, &idle_, &fresh_, &rest_}) {
    for (Connection* conn = list->front(); conn != nullptr;) {
      Connection* const next = list->Next(conn);
      visit(*conn);
      conn = next;
    }
  }
}

template <typename Visit>
void HostPool::ForEachWaiting(Visit&& visit) const {
  for (const auto* line : {&line_, &new_line_}) {
    for (Waiting* waiting = line->front(); waiting != nullptr;) {
      Waiting* const next = line->Next(waiting);
      visit(*waiting);
      waiting = next;
    }
  }
}

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_HOST_POOL_H_
