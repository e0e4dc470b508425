// Listening sockets: TCP over IPv4 and IPv6, and Unix sockets.
#ifndef HOTLINE_SERVER_FRONT_LISTENER_H_
#define HOTLINE_SERVER_FRONT_LISTENER_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "server/front/inherited_sockets.h"

namespace hotline::server {

// Owns its descriptor and the file of a Unix socket, and removes both. Movable;
// thread-compatible.
class Listener {
 public:
  enum class Kind { kLoopback, kReachable, kUnix };

  // Binds "127.0.0.1:50051", "[::1]:0" (a free port) or "unix:///path", without
  // blocking. A Unix socket is created with mode 0660. The file of a socket
  // without a listener is replaced; any other file is left alone.
  //
  // An inherited socket for the address is used as it is.
  //
  // Errors: UNAVAILABLE with the address and the system's reason.
  static absl::StatusOr<Listener> Bind(const std::string& address,
                                       const Inherited& inherited = {});
  // The error that Bind would return, except for an address in use. Changes
  // nothing.
  static absl::Status Check(const std::string& address);

  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  int fd() const { return fd_; }
  Kind kind() const { return kind_; }
  // As given, with the port chosen for 0.
  const std::string& address() const { return address_; }
  // For a process that takes it over.
  ListeningSocket Describe(std::string_view role) const {
    return {.fd = fd_,
            .role = std::string(role),
            .address = configured_,
            .keeps_file = foreign_file_};
  }
  // The file of a Unix socket is left alone from now on.
  void KeepFile() { path_.clear(); }

 private:
  Listener() = default;
  absl::Status BindTcp(bool may_be_in_use);
  absl::Status BindUnix(const std::string& path);
  absl::Status Adopt(const ListeningSocket& inherited);
  void FillInPort();
  // Remembers which file the path names.
  bool NoteFile(const std::string& path);
  static absl::Status CheckUnix(const std::string& address,
                                const std::string& path);

  int fd_ = -1;
  Kind kind_ = Kind::kLoopback;
  std::string address_;
  std::string configured_;
  bool foreign_file_ = false;
  // The socket's file and its inode, to remove no other file.
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_LISTENER_H_
