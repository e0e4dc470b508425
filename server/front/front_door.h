// Listens for callers, accepts them within limits, and delivers their
// connections.
//
//   auto door = FrontDoor::Bind(options);
//   (*door)->Open([](int fd, const Visitor& visitor) { ... }, nullptr);
//
// gRPC's own listener stops for good once descriptors run out, does not tell
// whose process is at the other end of a Unix socket, and keeps connections
// that reset calls by the thousand. So the accept loop is ours. It accepts,
// checks credentials and limits, and delivers the descriptor. It keeps a
// duplicate of each delivered descriptor, to detect the end of the connection
// and to cut the caller off.
//
// Out of descriptors, it closes a spare one to accept and close a waiting
// connection: a caller that is refused connects elsewhere, one in the backlog
// does not.
//
// Thread safety: a thread of its own does the work and calls Deliver and
// OnTick. Close and counts may be called from any thread, CutOff only from the
// door's thread.
//
// Invariants:
//   1. Open connections stay within max_connections, and those of a peer within
//      max_connections_per_peer.
//   2. An accepted connection is either delivered or closed and counted as
//      refused.
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

// Why a connection was refused or cut off: the label of listen_refused_total.
enum class Refusal : uint8_t {
  kConnections,  // max_connections are open.
  kPeer,         // The peer has max_connections_per_peer.
  kDescriptors,  // No descriptor was left.
  kCredentials,  // Neither its uid nor its gid is allowed.
  kResets,       // It reset calls too fast and was cut off.
};
inline constexpr std::array<std::string_view, 5> kRefusals = {
    "connections", "peer", "descriptors", "credentials", "resets"};

struct FrontDoorCounts {
  int64_t connections = 0;  // Open now.
  uint64_t accepted = 0;
  std::array<uint64_t, kRefusals.size()> refused{};
};

// A connection that was accepted.
struct Visitor {
  uint64_t id = 0;  // Never reused.
  Listener::Kind kind = Listener::Kind::kLoopback;
  // Of the process at the other end; Unix sockets only.
  uint32_t uid = 0;
  uint32_t gid = 0;
  // The other end: "127.0.0.1:5555", "[::1]:5555"; Unix: "uid:1000".
  std::string peer;
};

class FrontDoor {
 public:
  // Receives ownership of the descriptor. Called on the door's thread.
  using Deliver = std::function<void(int fd, const Visitor& visitor)>;
  // Called about ten times a second while connections are open or after it has
  // returned true; on the door's thread. May be null.
  using OnTick = std::function<bool()>;

  // Binds every address. Accepts nothing before Open.
  //
  // Errors: UNAVAILABLE with the address that cannot be bound.
  static absl::StatusOr<std::unique_ptr<FrontDoor>> Bind(
      FrontDoorOptions options);

  ~FrontDoor();
  FrontDoor(const FrontDoor&) = delete;
  FrontDoor& operator=(const FrontDoor&) = delete;

  // Starts to accept. REQUIRES: not open yet.
  void Open(Deliver deliver, OnTick on_tick);

  // Stops accepting; open connections stay. Idempotent.
  void Close();

  // Ends the door's thread: neither Deliver nor OnTick is called any more. Call
  // it before anything that those use is destroyed. Idempotent; not from the
  // door's thread.
  void Stop();

  // The addresses that it listens on, with the ports chosen for 0.
  const std::vector<std::string>& addresses() const { return addresses_; }
  bool has(Listener::Kind kind) const;

  // Ends the connection with this id, or with id 0 that of `peer`
  // ("127.0.0.1:5555"). Counts as kResets. False: there is none, or it was cut
  // off before. On the door's thread only (in OnTick).
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
  // False: no connection is waiting there any more.
  bool AcceptOne(const Listener& listener);
  void OnAcceptFailed(const Listener& listener, int error);
  // Fills `visitor`, and the group that it counts in. False: its credentials
  // are not allowed.
  bool Identify(int fd, Visitor* visitor, std::string* group) const;
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

  // Of the door's thread.
  std::vector<Listener> listeners_;
  Deliver deliver_;
  OnTick on_tick_;
  int spare_ = -1;
  Instant resume_at_ = kNever;  // Not listening until then.
  bool tick_again_ = false;     // OnTick has returned true.
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
