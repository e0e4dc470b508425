// A listening socket that only this machine can connect to.
#ifndef HOTLINE_CLIENT_CLI_LOCAL_LISTENER_H_
#define HOTLINE_CLIENT_CLI_LOCAL_LISTENER_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace hotline::client {

class LocalListener {
 public:
  // `address`: a port of 127.0.0.1, a loopback "host:port" (port 0: a free
  // one), or "unix:///path", a new socket for this user alone.
  // Errors: INVALID_ARGUMENT; FAILED_PRECONDITION if it cannot listen there.
  static absl::StatusOr<std::unique_ptr<LocalListener>> Open(
      const std::string& address);

  // Removes its Unix socket.
  ~LocalListener();
  LocalListener(const LocalListener&) = delete;
  LocalListener& operator=(const LocalListener&) = delete;

  // "127.0.0.1:5432", with the actual port, or "unix:///path".
  const std::string& address() const { return address_; }
  // Readable when a connection waits.
  int fd() const { return fd_; }
  // The next connection's descriptor, which the caller closes; -1: none.
  int Accept() const;

 private:
  LocalListener(int fd, std::string address, std::string path)
      : fd_(fd), address_(std::move(address)), path_(std::move(path)) {}

  static absl::StatusOr<std::unique_ptr<LocalListener>> OpenUnix(
      const std::string& path);
  static absl::StatusOr<std::unique_ptr<LocalListener>> OpenTcp(
      const std::string& host, int port);

  const int fd_;
  const std::string address_;
  const std::string path_;  // Empty: TCP.
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_LOCAL_LISTENER_H_
