// Where callers come in: listens, accepts, and hands connections on.
//
// gRPC's own listener goes deaf for ever once descriptors run out, does not say
// who is on the other end of a Unix socket, and keeps a connection that resets
// calls by the thousand. So the loop is ours. It accepts, looks at who it is,
// keeps to the caps, and delivers the descriptor; of each delivered one it
// keeps a duplicate, by which it notices the end and can cut the caller off.
//
// Out of descriptors, a spare one is given up to accept whoever waits and close
// the connection at once: a caller that is told to go away goes elsewhere, one
// that hangs in the backlog does not.
//
// Thread safety: one thread of its own does everything; counts() and CutOff may
// be called from any thread. No gRPC in it.
#ifndef HOTLINE_SERVER_FRONT_FRONT_DOOR_H_
#define HOTLINE_SERVER_FRONT_FRONT_DOOR_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/time.h"
#include "server/front/listener.h"
#include "server/front/options.h"

namespace hotline::server {

// Why a connection was not let in, or not kept: the label of
// listen_refused_total.
enum class Refusal : uint8_t {
  kConnections,  // As many as there may be.
  kPeer,         // As many as one peer may have.
  kDescriptors,  // No descriptor left.
  kCredentials,  // A uid and gid that are not allowed.
  kResets,       // It reset calls too fast, and was cut off.
};
inline constexpr std::array<std::string_view, 5> kRefusals = {
    "connections", "peer", "descriptors", "credentials", "resets"};

struct FrontDoorCounts {
  int64_t connections = 0;  // Open now.
  uint64_t accepted = 0;
  std::array<uint64_t, kRefusals.size()> refused{};
};

// Somebody at the door.
struct Visitor {
  uint64_t id = 0;  // The door's name for the connection; never reused.
  Listener::Kind kind = Listener::Kind::kLoopback;
  // Unix sockets: whose process it is.
  uint32_t uid = 0;
  uint32_t gid = 0;
  // Names the other end: "127.0.0.1:5555", "[::1]:5555"; Unix: "uid:1000".
  std::string peer;
};

class FrontDoor {
 public:
  // Takes the descriptor over. From the door's thread.
  using Deliver = std::function<void(int fd, const Visitor& visitor)>;
  // Called about ten times a second while there are connections, or it has
  // returned true; from the door's thread. May be null.
  using OnTick = std::function<bool()>;

  // Binds every address. Nobody is let in before Open.
  //
  // Errors: UNAVAILABLE with the address that cannot be bound.
  static absl::StatusOr<std::unique_ptr<FrontDoor>> Bind(
      FrontDoorOptions options);

  ~FrontDoor();
  FrontDoor(const FrontDoor&) = delete;
  FrontDoor& operator=(const FrontDoor&) = delete;

  // Starts to let callers in. REQUIRES: not open yet.
  void Open(Deliver deliver, OnTick on_tick);

  // Lets nobody in any more; those inside stay. Idempotent.
  void Close();

  // Ends its thread: nobody is delivered any more, and OnTick is not called.
  // Whoever uses the door in those has to call it before the door goes.
  // Idempotent; not from the door's thread.
  void Stop();

  // Where it listens, free ports filled in.
  const std::vector<std::string>& addresses() const { return addresses_; }
  bool has(Listener::Kind kind) const;

  // Ends the connection with this id, or, where that is 0, the one of `peer`
  // ("127.0.0.1:5555"). Counts as kResets. False: it is not there, or is cut
  // off already.
  // From the door's thread only (in OnTick).
  bool CutOff(uint64_t id, std::string_view peer);

  FrontDoorCounts counts() const;

 private:
  // The duplicate of a delivered connection's descriptor.
  struct Connection {
    int fd = -1;
    std::string peer;
    std::string group;  // What max_connections_per_peer counts.
    bool cut_off = false;
  };

  explicit FrontDoor(FrontDoorOptions options);

  void Run();
  void CloseListeners();
  void SetListening(bool on);
  void AcceptFrom(const Listener& listener);
  // False: nobody waits there any more.
  bool AcceptOne(const Listener& listener);
  void OnAcceptFailed(const Listener& listener, int error);
  // Fills `visitor` and whom it counts as. False: it is not let in.
  bool LookAt(int fd, Visitor* visitor, std::string* group) const;
  bool Allowed(int fd, const Visitor& visitor) const;
  void Admit(int fd, Listener::Kind kind);
  void Refuse(int fd, Refusal why);
  void Forget(uint64_t id);
  void Count(Refusal why);

  const FrontDoorOptions options_;
  std::vector<std::string> addresses_;
  std::vector<Listener::Kind> kinds_;
  std::atomic<bool> closing_{false};
  std::atomic<bool> stopping_{false};
  int epoll_ = -1;
  int wake_ = -1;  // An eventfd.

  // The door's thread's own.
  std::vector<Listener> listeners_;
  Deliver deliver_;
  OnTick on_tick_;
  int spare_ = -1;
  Instant resume_at_ = kNever;  // Not listening until then.
  bool tick_again_ = false;     // What OnTick has returned.
  uint64_t next_id_;
  absl::flat_hash_map<uint64_t, Connection> connections_;
  absl::flat_hash_map<std::string, int> groups_;

  std::atomic<int64_t> open_{0};
  std::atomic<uint64_t> accepted_{0};
  std::array<std::atomic<uint64_t>, kRefusals.size()> refused_{};

  std::thread thread_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_FRONT_DOOR_H_
