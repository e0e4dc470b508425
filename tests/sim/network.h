// A virtual network under the pool: dials take time and fail, connections close
// by themselves, and answers arrive late, out of order, or from inside the
// call.
#ifndef HOTLINE_TESTS_SIM_NETWORK_H_
#define HOTLINE_TESTS_SIM_NETWORK_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "pool/pool.h"
#include "pool/transport.h"
#include "tests/sim/dice.h"
#include "tests/sim/schedule.h"

namespace hotline::sim {

struct NetworkOptions {
  int inline_percent = 10;  // Of answers: from inside the call.
  int dial_fails_percent = 10;
  int probe_fails_percent = 20;
  int early_end_percent = 10;  // Of connections: end once established.
  int late_tick_percent = 10;
  int max_streams = 1;  // 1: HTTP/1.1.
  // Of the upstream. Each may be down for a while. After three failed dials in
  // a row an address is not dialled for 50 ms, unless it is the last.
  int addresses = 1;
  int loops = 1;
  Duration max_dial = std::chrono::milliseconds(50);
  Duration max_late = std::chrono::milliseconds(20);  // Delay of ticks.
};

// Counts of the events that HTTP/2 peers caused.
struct PeerEvents {
  uint64_t goaways = 0;
  uint64_t raised = 0;   // Limits on streams raised,
  uint64_t lowered = 0;  // lowered to more than 0,
  uint64_t stopped = 0;  // lowered to 0.
};

class Network final : public pool::Transport {
 public:
  Network(Schedule* schedule, Dice* dice, const NetworkOptions& options);

  void set_pool(pool::Pool* pool) { pool_ = pool; }
  // Every event for the pool is passed to `post`, which runs it.
  void set_post(std::function<void(const std::function<void()>&)> post) {
    post_ = std::move(post);
  }
  // From now on nothing fails and nothing happens by itself.
  void StopFaults() { faults_ = false; }

  // Causes a random event on a random open connection.
  void CauseRandomEvent();

  // Dials and connections whose end was not reported to the pool yet.
  int outstanding() const { return outstanding_; }
  // All dials, and the connections that ended on probation.
  uint64_t dials() const { return dials_; }
  uint64_t early() const { return early_; }
  const PeerEvents& peer_events() const { return peer_events_; }
  bool ProbeOutstanding(pool::ConnId id) const;
  // Of any connection that was ever dialled.
  pool::LoopIndex LoopOf(pool::ConnId id) const { return loops_.at(id); }
  // Empty unless the pool broke the rules of Transport.
  const std::string& problem() const { return problem_; }

  // pool::Transport:
  void Dial(pool::ConnId id, std::shared_ptr<const pool::HostPoolKey> key,
            pool::LoopIndex loop) override;
  void Probe(pool::ConnId id,
             std::shared_ptr<const pool::HostPoolKey> key) override;
  void Close(pool::ConnId id, pool::CloseReason reason) override;
  void WakeAt(int shard, Instant when) override;

 private:
  struct Peer {
    enum Phase { kDialing, kOpen, kClosed };
    Phase phase = kDialing;
    int streams = 0;  // The limit.
    int probes = 0;
    bool close_asked = false;
    bool served = false;
    bool early = false;  // Reported as ended on probation.
  };

  struct Address {
    Instant down_until{};
    Instant ejected_until{};
    int failures = 0;  // In a row.
  };

  struct Wake {
    bool pending = false;
    Instant when{};
    uint64_t number = 0;
  };

  // Runs `answer` now or within `most`.
  void Answer(Duration most, std::function<void()> answer);
  void FinishDial(pool::ConnId id, size_t address);
  size_t ChooseAddress();
  // Decides whether a dial fails; ejects an address that fails too often.
  bool Fails(Address* address);
  void ChangeLimit(pool::ConnId id);
  void EndByItself(pool::ConnId id, bool early);
  // Returns the error of a connection that ends on probation, else null.
  const pool::DialError* EarlyError(pool::ConnId id, bool early);
  void PostClosed(pool::ConnId id, pool::CloseReason reason, bool early);
  void Expect(bool holds, const char* what);

  Schedule* const schedule_;
  Dice* const dice_;
  const NetworkOptions options_;
  pool::Pool* pool_ = nullptr;
  std::function<void(const std::function<void()>&)> post_;
  bool faults_ = true;
  std::string problem_;
  std::unordered_map<pool::ConnId, Peer> peers_;
  std::unordered_map<pool::ConnId, pool::LoopIndex> loops_;
  std::vector<pool::ConnId> open_;
  std::map<int, Wake> wakes_;
  std::vector<Address> addresses_;
  size_t next_address_ = 0;
  int outstanding_ = 0;
  uint64_t dials_ = 0;
  uint64_t early_ = 0;
  PeerEvents peer_events_;
};

}  // namespace hotline::sim

#endif  // HOTLINE_TESTS_SIM_NETWORK_H_
