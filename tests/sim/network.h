// A virtual network under the pool: dials take time and fail, connections
// close by themselves, answers come late, out of order, or from inside the
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
  int inline_percent = 10;  // Answers from inside the call.
  int dial_fails_percent = 10;
  int probe_fails_percent = 20;
  int early_end_percent = 10;  // Connections that end as soon as they are made.
  int late_tick_percent = 10;
  int max_streams = 1;  // 1: HTTP/1.1.
  // Each may be down for a while. One that failed three dials in a row is not
  // dialled for 50 ms, unless it is the last.
  int addresses = 1;
  Duration max_dial = std::chrono::milliseconds(50);
  Duration max_late = std::chrono::milliseconds(20);  // Of ticks.
};

// What HTTP/2 peers did by themselves, and the pool was told.
struct PeerEvents {
  uint64_t goaways = 0;
  uint64_t raised = 0;   // The limit on streams.
  uint64_t lowered = 0;  // To more than none.
  uint64_t stopped = 0;  // Lowered to none.
};

class Network final : public pool::Transport {
 public:
  Network(Schedule* schedule, Dice* dice, const NetworkOptions& options);

  void set_pool(pool::Pool* pool) { pool_ = pool; }
  // Each event told to the pool passes through here.
  void set_teller(std::function<void(const std::function<void()>&)> teller) {
    tell_ = std::move(teller);
  }
  // From here on nothing goes wrong and nothing happens by itself.
  void CalmDown() { calm_ = true; }

  // Something happens by itself to some open connection.
  void Mischief();

  // Dials and connections that the pool has not been told the end of.
  int live() const { return live_; }
  // All there were, and connections that ended on probation.
  uint64_t dials() const { return dials_; }
  uint64_t early() const { return early_; }
  const PeerEvents& peer_events() const { return peer_events_; }
  bool ProbeOutstanding(pool::ConnId id) const;
  // Empty: the pool kept its side of the conversation.
  const std::string& problem() const { return problem_; }

  // pool::Transport:
  void Dial(pool::ConnId id,
            std::shared_ptr<const pool::HostPoolKey> key) override;
  void Probe(pool::ConnId id, pool::Handle handle,
             std::shared_ptr<const pool::HostPoolKey> key) override;
  void Close(pool::ConnId id, pool::Handle handle,
             pool::CloseReason reason) override;
  void WakeAt(int shard, Instant when) override;

 private:
  struct Connection {
    enum Phase { kDialing, kOpen, kClosed };
    Phase phase = kDialing;
    pool::Handle handle = 0;
    int streams = 0;  // Allowed.
    int probes = 0;
    bool close_asked = false;
    bool served = false;
    bool early = false;  // Told.
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

  void Answer(Duration most, std::function<void()> what);
  void FinishDial(pool::ConnId id, size_t address);
  size_t ChooseAddress();
  // Whether a dial of it fails; ejects it when it has failed too often.
  bool Fails(Address* address);
  void ChangeLimit(pool::ConnId id);
  void EndByItself(pool::ConnId id, bool early);
  // Null, or the error of one that ends on probation.
  const pool::DialError* EarlyError(pool::ConnId id, bool early);
  void TellClosed(pool::ConnId id, pool::CloseReason reason, bool early);
  void Expect(bool holds, const char* what);

  Schedule* const schedule_;
  Dice* const dice_;
  const NetworkOptions options_;
  pool::Pool* pool_ = nullptr;
  std::function<void(const std::function<void()>&)> tell_;
  bool calm_ = false;
  std::string problem_;
  std::unordered_map<pool::ConnId, Connection> connections_;
  std::vector<pool::ConnId> open_;
  std::map<int, Wake> wakes_;
  std::vector<Address> addresses_;
  size_t next_address_ = 0;
  pool::Handle next_handle_ = 1;
  int live_ = 0;
  uint64_t dials_ = 0;
  uint64_t early_ = 0;
  PeerEvents peer_events_;
};

}  // namespace hotline::sim

#endif  // HOTLINE_TESTS_SIM_NETWORK_H_
