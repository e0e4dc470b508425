// Listens for callers, accepts them within limits, and delivers their
// connections.
//
//   auto door = FrontDoor::Bind(options);
//   (*door)->Open([](int fd, const Visitor& visitor) { ... });
//   ...
//   (*door)->Leave(visitor);  // When the connection is closed.
//
// Out of descriptors, it closes a spare one to accept and close a waiting
// connection: a caller that is refused connects elsewhere, one in the backlog
// does not.
//
// Thread safety: a thread of its own does the work and calls Deliver. Leave,
// Count, Close and counts may be called from any thread.
//
// Invariants:
//   1. Open connections stay within max_connections, and those of a peer within
//      max_connections_per_peer.
//   2. An accepted connection is either delivered or closed and counted as
//      refused. One that was delivered is open until Leave.
#ifndef HOTLINE_SERVER_FRONT_FRONT_DOOR_H_
#define HOTLINE_SERVER_FRONT_FRONT_DOOR_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/time.h"
#include "net/tls/server.h"
#include "server/front/inherited_sockets.h"
#include "server/front/listener.h"
#include "server/front/options.h"

namespace hotline::server {

// Why a connection was refused or cut off: the label of listen_refused_total.
enum class Refusal : uint8_t {
  kConnections,  // max_connections are open.
  kPeer,         // The peer has max_connections_per_peer.
  kDescriptors,  // No descriptor was left.
  kCredentials,  // Neither its uid nor its gid is allowed.
  kResets,       // It reset calls, or sent frames of no use, too fast.
  kHttp1,        // It speaks HTTP/1.
  kPlainPort,    // It speaks TLS where plain text is served.
  kSilent,       // Its handshakes took too long.
  kProtocol,     // It broke HTTP/2's rules.
  kTls,          // The first of net::TlsFailure's, from kNotTls.
};
inline constexpr std::array<std::string_view, 20> kRefusals = {
    "connections",    "peer",
    "descriptors",    "credentials",
    "resets",         "http1",
    "plain_port",     "silent",
    "protocol",       "tls_not_tls",
    "tls_version",    "tls_suite",
    "tls_no_h2",      "tls_no_certificate",
    "tls_expired",    "tls_not_yet_valid",
    "tls_unknown_ca", "tls_bad_certificate",
    "tls_alert",      "tls_other"};
static_assert(kRefusals.size() ==
              static_cast<size_t>(Refusal::kTls) + net::kTlsFailures - 1);
// REQUIRES: not kNone.
constexpr Refusal RefusalOf(net::TlsFailure failure) {
  return static_cast<Refusal>(static_cast<int>(Refusal::kTls) +
                              static_cast<int>(failure) - 1);
}

struct FrontDoorCounts {
  int64_t connections = 0;  // Open now.
  uint64_t accepted = 0;
  std::array<uint64_t, kRefusals.size()> refused{};
};

// A connection that was accepted.
struct Visitor {
  Listener::Kind kind = Listener::Kind::kLoopback;
  // Of the process at the other end; Unix sockets only.
  uint32_t uid = 0;
  uint32_t gid = 0;
  // The other end: "127.0.0.1:5555", "[::1]:5555"; Unix: "uid:1000".
  std::string peer;
  std::string group;  // What max_connections_per_peer counts.
};

class FrontDoor {
 public:
  // Receives ownership of the descriptor. Called on the door's thread.
  using Deliver = std::function<void(int fd, const Visitor& visitor)>;

  // Binds every address, or takes an inherited socket for it. Accepts nothing
  // before Open.
  //
  // Errors: UNAVAILABLE with the address that cannot be bound.
  static absl::StatusOr<std::unique_ptr<FrontDoor>> Bind(
      FrontDoorOptions options, const Inherited& inherited = {});

  ~FrontDoor();
  FrontDoor(const FrontDoor&) = delete;
  FrontDoor& operator=(const FrontDoor&) = delete;

  // Starts to accept. REQUIRES: not open yet.
  void Open(Deliver deliver);

  // Stops accepting; open connections stay. Idempotent.
  void Close();

  // Ends the door's thread: Deliver is not called any more. Call it before
  // anything that it uses is destroyed. Idempotent; not from the door's thread.
  void Stop();

  // The addresses that it listens on, with the ports chosen for 0.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Its sockets, for a process that takes them over; valid until Close.
  const std::vector<ListeningSocket>& sockets() const { return sockets_; }
  // Whether the files of Unix sockets are removed when it closes. With
  // inherited sockets they are not, until this is called: the process that
  // handed them over may go on with them.
  void SetOwnsFiles(bool owns) { owns_files_ = owns; }

  // A connection that was delivered is closed.
  void Leave(const Visitor& visitor);
  // A connection that was delivered has turned out to be none of ours.
  void Count(Refusal why) {
    refused_[static_cast<size_t>(why)].fetch_add(1, std::memory_order_relaxed);
  }

  FrontDoorCounts counts() const;

 private:
  explicit FrontDoor(FrontDoorOptions options);

  void Run();
  void CloseListeners();
  void SetListening(bool on);
  void AcceptFrom(const Listener& listener);
  // False: no connection is waiting there any more.
  bool AcceptOne(const Listener& listener);
  void OnAcceptFailed(const Listener& listener, int error);
  // Fills `visitor`. False: its credentials are not allowed.
  bool Identify(int fd, Visitor* visitor) const;
  bool Allowed(int fd, const Visitor& visitor) const;
  void Admit(int fd, Listener::Kind kind);
  // Nothing: it is in, and counted.
  std::optional<Refusal> Enter(const Visitor& visitor);
  void Refuse(int fd, Refusal why);

  const FrontDoorOptions options_;
  std::vector<std::string> addresses_;
  std::vector<ListeningSocket> sockets_;
  std::atomic<bool> owns_files_{true};
  std::atomic<bool> closing_{false};
  std::atomic<bool> stopping_{false};
  int epoll_ = -1;
  int wake_ = -1;  // An eventfd.

  // Of the door's thread.
  std::vector<Listener> listeners_;
  Deliver deliver_;
  int spare_ = -1;
  Instant resume_at_ = kNever;  // Not listening until then.

  mutable Mutex mu_;
  int64_t open_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_map<std::string, int> groups_ ABSL_GUARDED_BY(mu_);

  std::atomic<uint64_t> accepted_{0};
  std::array<std::atomic<uint64_t>, kRefusals.size()> refused_{};

  std::thread thread_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_FRONT_DOOR_H_
