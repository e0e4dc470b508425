// Listening sockets: TCP over IPv4 and IPv6, and Unix sockets.
#ifndef HOTLINE_SERVER_FRONT_LISTENER_H_
#define HOTLINE_SERVER_FRONT_LISTENER_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"

namespace hotline::server {

// Owns its descriptor, and a Unix socket's file: both go with it. Movable.
class Listener {
 public:
  enum class Kind { kLoopback, kReachable, kUnix };

  // Binds "127.0.0.1:50051", "[::1]:0" (a free port) or "unix:///path", without
  // blocking. A Unix socket is born with mode 0660. The file of one that nobody
  // listens on any more is replaced; any other file is left alone.
  //
  // Errors: UNAVAILABLE with the address and the system's reason.
  static absl::StatusOr<Listener> Bind(const std::string& address);
  // What Bind would find, but for an address that is in use. Nothing is
  // changed.
  static absl::Status Check(const std::string& address);

  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  int fd() const { return fd_; }
  Kind kind() const { return kind_; }
  // As given, the port that was free filled in.
  const std::string& address() const { return address_; }

 private:
  Listener() = default;
  absl::Status BindTcp(bool may_be_in_use);
  absl::Status BindUnix(const std::string& path);
  static absl::Status CheckUnix(const std::string& address,
                                const std::string& path);

  int fd_ = -1;
  Kind kind_ = Kind::kLoopback;
  std::string address_;
  // The socket's file, while it is ours to remove: which one it was.
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_LISTENER_H_
