// A new process takes the listening sockets over from a running one, over a
// Unix socket:
//
//   new                            old
//   connect ─────────────────────> one taker at a time, of its own user
//   'T' ─────────────────────────>
//       <───── sockets, warm set   keeps serving
//   warms up, listens, accepts
//   'S' ─────────────────────────>
//       <────────────────────'A'   stops accepting, drains, exits
//
// Until the old process has read 'S' it is in charge: if the connection ends
// before, it goes on as if nothing had happened. Both accept between the new
// process's start and 'A'; no connection is lost, because a listening socket
// and its queue exist as long as one process has it.
//
// The sockets come with the descriptors of the message (SCM_RIGHTS), the warm
// set as a file in memory. The socket that takers connect to is handed over,
// too.
//
// Thread safety: none.
#ifndef HOTLINE_SERVER_DAEMON_TAKEOVER_H_
#define HOTLINE_SERVER_DAEMON_TAKEOVER_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/time.h"
#include "server/front/inherited_sockets.h"
#include "server/front/listener.h"

namespace hotline::server {

// The role of the socket of listen.http, which knows no roles.
inline constexpr char kHttpRole[] = "http";

// What passes to the new process.
struct HandOver {
  std::vector<ListeningSocket> sockets;
  std::string warm_set;  // See warm_set.h.
};

// The old process's side.
class TakeoverServer {
 public:
  // Listens at `path`, or on the inherited socket for it. Processes of other
  // users than `user` are refused.
  //
  // Errors: UNAVAILABLE with the path.
  static absl::StatusOr<std::unique_ptr<TakeoverServer>> Start(
      const std::string& path, InheritedSockets* inherited, uid_t user);
  ~TakeoverServer();
  TakeoverServer(const TakeoverServer&) = delete;
  TakeoverServer& operator=(const TakeoverServer&) = delete;

  // What to poll for. At `deadline` Step is due, too.
  std::vector<pollfd> Watched() const;
  Instant deadline() const { return deadline_; }

  // Does what can be done without blocking. `hand_over` is called for a taker,
  // without the socket that takers connect to. Returns the id of the process
  // that serves now and waits for Acknowledge.
  std::optional<pid_t> Step(Instant now,
                            absl::FunctionRef<HandOver()> hand_over);
  // Tells the new process that this one has stopped accepting.
  void Acknowledge();

  // Whether the socket's file is removed at the end.
  void SetOwnsFile(bool owns) { owns_file_ = owns; }

 private:
  TakeoverServer(Listener listener, uid_t user);

  void Accept(Instant now);
  // True: it serves.
  bool HearTaker(Instant now, absl::FunctionRef<HandOver()> hand_over);
  // Empty: it is the taker now.
  std::string WhyRefused(const ucred& peer) const;
  void Answer(HandOver hand_over);
  void Drop(const char* why);

  Listener listener_;
  const uid_t user_;
  bool owns_file_ = true;
  int taker_ = -1;
  pid_t taker_pid_ = 0;
  bool handed_ = false;
  Instant deadline_ = kNever;  // For the taker's first byte.
};

// The new process's side.
class Predecessor {
 public:
  // Connects to the process that listens at `path`, and takes over; null: there
  // is none.
  //
  // Errors: UNAVAILABLE if it refuses or sends something else,
  // PERMISSION_DENIED if it was started by another user.
  static absl::StatusOr<std::unique_ptr<Predecessor>> Find(
      const std::string& path, uid_t user);
  ~Predecessor();
  Predecessor(const Predecessor&) = delete;
  Predecessor& operator=(const Predecessor&) = delete;

  pid_t pid() const { return pid_; }
  InheritedSockets TakeSockets() { return std::move(sockets_); }
  const std::string& warm_set() const { return warm_set_; }

  // Whether it still runs. Waits for `length`, unless it ends.
  bool AliveFor(Duration length) const;

  // This process serves: waits until the other one has stopped accepting.
  //
  // Errors: UNAVAILABLE if it has ended instead.
  absl::Status Finish();

 private:
  explicit Predecessor(int fd) : fd_(fd) {}
  absl::Status Connect(const std::string& path, uid_t user);
  absl::Status Receive();
  // Takes the descriptors over.
  absl::Status Unpack(std::string_view payload, std::vector<int> fds);

  const int fd_;
  pid_t pid_ = 0;
  InheritedSockets sockets_;
  std::string warm_set_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_TAKEOVER_H_
