// What the callers' connections of one loop share: its memory, its turns, and
// what serves their calls.
//
// One write for each socket and turn: a connection that has something to write
// says so (MarkDirty), and the first of a turn posts the turn's end, which
// comes after everything that the loop has seen in this turn. There calls that
// collect answers (AtTurnEnd) have their say, and then each dirty connection
// writes once.
//
// Thread safety: Deliver, StartDrain, CutOff, OnHealthChanged, connections,
// has_calls and idle from any thread, everything else on the loop.
#ifndef HOTLINE_SERVER_FRONT_FRONT_LOOP_H_
#define HOTLINE_SERVER_FRONT_FRONT_LOOP_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "net/http2/server_memory.h"
#include "net/http2/server_session.h"
#include "net/loop.h"
#include "net/tls/server.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"
#include "server/broker/identity.h"
#include "server/front/front_door.h"
#include "server/front/server_call.h"

namespace hotline::server {

class CallerConnection;
class HealthTable;
class HealthWatch;
class Reflection;

// What serves calls. All must outlive the loops and their calls.
struct FrontParts {
  Broker* broker = nullptr;
  RpcMetrics* metrics = nullptr;
  IdentityTable* identities = nullptr;  // Null: no caller has one.
  FrontDoor* door = nullptr;
  HealthTable* health = nullptr;
  const Reflection* reflection = nullptr;
  // Null: addresses that other machines reach are served without TLS.
  const net::TlsServerContextHolder* tls = nullptr;
  // Asked for services other than the product's. Null: there are none.
  CallFactory further_services = nullptr;
  net::ServerOptions http2;
  // Of messages that have come in part, beyond the windows, for each loop.
  size_t max_assembled_bytes = size_t{1} << 40;
  // Called on a loop that drains when its last call, or its last connection,
  // is gone. May be null.
  std::function<void()> on_drained;
};

class FrontLoop {
 public:
  // Both must outlive this; the loop may stop before.
  FrontLoop(net::Loop* loop, const FrontParts* parts);
  ~FrontLoop();
  FrontLoop(const FrontLoop&) = delete;
  FrontLoop& operator=(const FrontLoop&) = delete;

  // --- From any thread ---
  // Takes a caller's connection over.
  void Deliver(int fd, Visitor visitor);
  // GOAWAY to every connection; calls that were accepted go on. A connection
  // over which leases were acquired that are held still gets it when they have
  // ended, at `leases_until` at the latest.
  void StartDrain(Instant leases_until = Instant{});
  // Ends every connection now.
  void CutOff();
  void OnHealthChanged();
  // Runs `done` on the loop once nothing else of this is left to run there.
  // When it is idle.
  void Close(net::Loop::Work done);
  int connections() const {
    return connection_count_.load(std::memory_order_relaxed);
  }
  bool has_calls() const { return calls_.load(std::memory_order_acquire) > 0; }
  // No connection is open, and no call runs.
  bool idle() const { return connections() == 0 && !has_calls(); }

  // --- For connections and calls, on the loop ---
  net::Loop& loop() { return *loop_; }
  const FrontParts& parts() const { return *parts_; }
  net::ServerMemory& memory() { return memory_; }
  // Buffers to read into, for the length of one event.
  char* scratch() { return scratch_.get(); }
  char* plain_scratch() { return scratch_.get() + net::Loop::kScratchBytes; }
  // Swaps an empty string for one with room, and gives it back.
  void TakeBuffer(std::string* buffer) { buffer->swap(spare_buffer_); }
  void GiveBuffer(std::string* buffer) {
    if (spare_buffer_.capacity() < buffer->capacity()) {
      buffer->swap(spare_buffer_);
    }
    std::string().swap(*buffer);
  }

  void MarkDirty(std::shared_ptr<CallerConnection> connection);
  void AtTurnEnd(ServerCall* call);
  // False: this turn has had its share of TLS handshakes.
  bool TakeHandshake();
  // This turn has had its share of calls: what is readable waits for the next.
  bool turn_is_full() const { return turn_calls_ >= kMaxTurnCalls; }

  void OnConnectionClosed(CallerConnection* connection);
  void OnCallBegun() {
    calls_.fetch_add(1, std::memory_order_relaxed);
    if (++turn_calls_ == kMaxTurnCalls) ScheduleTurnEnd();
  }
  void OnCallGone() {
    if (calls_.fetch_sub(1, std::memory_order_release) == 1) NoteDrained();
  }
  // Bytes of messages that have come in part. False: there are too many.
  bool AddAssembled(size_t bytes) {
    if (assembled_ + bytes > parts_->max_assembled_bytes) return false;
    assembled_ += bytes;
    return true;
  }
  void DropAssembled(size_t bytes) { assembled_ -= bytes; }

  void AddWatch(HealthWatch* watch) { watches_.insert(watch); }
  void RemoveWatch(HealthWatch* watch) { watches_.erase(watch); }

 private:
  // Reading stops past it; one read brings some hundred calls at most.
  static constexpr int kMaxTurnCalls = 256;

  void Take(int fd, Visitor visitor);
  void DrainConnections(Instant leases_until);
  void ForgetConnection();
  void NoteDrained() {
    if (draining_ && parts_->on_drained) parts_->on_drained();
  }
  void ScheduleTurnEnd();
  void EndTurn();

  net::Loop* const loop_;
  const FrontParts* const parts_;
  const std::unique_ptr<char[]> scratch_;
  net::ServerMemory memory_;
  std::string spare_buffer_;

  // Each is kept alive by the loop's watch.
  absl::flat_hash_set<CallerConnection*> connections_;
  std::atomic<int> connection_count_{0};  // With those on their way here.
  std::atomic<int> calls_{0};
  bool draining_ = false;
  bool cut_off_ = false;
  net::Loop::Deadline lease_check_;

  bool turn_end_posted_ = false;
  int handshakes_ = 0;  // In this turn, as the next.
  int turn_calls_ = 0;
  std::vector<ServerCall::Ref> at_turn_end_;
  std::vector<std::shared_ptr<CallerConnection>> dirty_;
  // Emptied lists, to be filled again.
  std::vector<ServerCall::Ref> spare_calls_;
  std::vector<std::shared_ptr<CallerConnection>> spare_dirty_;

  size_t assembled_ = 0;
  absl::flat_hash_set<HealthWatch*> watches_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_FRONT_LOOP_H_
