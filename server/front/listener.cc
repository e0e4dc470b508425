#include "server/front/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/socket_address.h"

namespace hotline::server {
namespace {

constexpr char kUnix[] = "unix://";
constexpr mode_t kSocketMode = 0660;
constexpr char kPathTooLong[] = "a socket's path has at most 107 bytes";

absl::Status Failed(const std::string& address, const std::string& why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": ", why));
}

int NewSocket(int family) {
  return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

bool Fill(const std::string& path, sockaddr_un* address) {
  *address = {};
  address->sun_family = AF_UNIX;
  if (path.size() >= sizeof address->sun_path) return false;
  std::memcpy(address->sun_path, path.data(), path.size());
  return true;
}

// Whether the file is that of a socket without a listener.
bool IsStale(const std::string& path, const sockaddr_un& address) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  const int probe = NewSocket(AF_UNIX);
  const bool refused =
      connect(probe, reinterpret_cast<const sockaddr*>(&address),
              sizeof address) != 0 &&
      errno == ECONNREFUSED;
  close(probe);
  return refused;
}

int PortOf(int fd) {
  sockaddr_storage address;
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return 0;
  }
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                   : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

int BindTo(int fd, const SocketAddress& where) {
  if (where.host.find(':') == std::string::npos) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(where.port));
    inet_pton(AF_INET, where.host.c_str(), &address.sin_addr);
    return bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(where.port));
  inet_pton(AF_INET6, where.host.c_str(), &address.sin6_addr);
  return bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
}

}  // namespace

absl::StatusOr<Listener> Listener::Bind(const std::string& address,
                                        const Inherited& inherited) {
  Listener listener;
  listener.address_ = listener.configured_ = address;
  const ListeningSocket given = inherited.Take(address);
  if (given.fd >= 0) {
    const absl::Status status = listener.Adopt(given);
    if (!status.ok()) return status;
    return listener;
  }
  const bool is_unix = address.rfind(kUnix, 0) == 0;
  const absl::Status status =
      is_unix ? listener.BindUnix(address.substr(std::strlen(kUnix)))
              : listener.BindTcp(/*may_be_in_use=*/false);
  if (!status.ok()) return status;
  if (listen(listener.fd_, SOMAXCONN) != 0) {
    return Failed(address, std::strerror(errno));
  }
  return listener;
}

absl::Status Listener::Check(const std::string& address) {
  if (address.rfind(kUnix, 0) == 0) {
    return CheckUnix(address, address.substr(std::strlen(kUnix)));
  }
  Listener listener;
  listener.address_ = address;
  return listener.BindTcp(/*may_be_in_use=*/true);
}

absl::Status Listener::CheckUnix(const std::string& address,
                                 const std::string& path) {
  sockaddr_un unused;
  if (!Fill(path, &unused)) return Failed(address, kPathTooLong);
  const std::string directory = path.substr(0, path.rfind('/') + 1);
  if (access(directory.c_str(), W_OK | X_OK) != 0) {
    return Failed(address, std::strerror(errno));
  }
  struct stat info;
  if (lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
    return Failed(address, std::strerror(EADDRINUSE));
  }
  return absl::OkStatus();
}

absl::Status Listener::BindTcp(bool may_be_in_use) {
  const auto where = ParseSocketAddress(address_);
  if (!where.has_value()) return Failed(address_, "not a numeric address");
  kind_ = where->loopback ? Kind::kLoopback : Kind::kReachable;
  const bool v6 = where->host.find(':') != std::string::npos;
  fd_ = NewSocket(v6 ? AF_INET6 : AF_INET);
  if (fd_ < 0) return Failed(address_, std::strerror(errno));
  const int on = 1;
  const int off = 0;
  // No SO_REUSEPORT: a second process on our port is an error to report.
  setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // Accepted connections inherit it.
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (v6) setsockopt(fd_, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (BindTo(fd_, *where) != 0 && !(may_be_in_use && errno == EADDRINUSE)) {
    return Failed(address_, std::strerror(errno));
  }
  FillInPort();
  return absl::OkStatus();
}

absl::Status Listener::Adopt(const ListeningSocket& inherited) {
  fd_ = inherited.fd;
  foreign_file_ = inherited.keeps_file;
  int listens = 0;
  socklen_t size = sizeof listens;
  const int on = 1;
  const int flags = fcntl(fd_, F_GETFL);
  if (getsockopt(fd_, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 ||
      listens == 0 || flags < 0 ||
      fcntl(fd_, F_SETFL, flags | O_NONBLOCK) != 0 ||
      fcntl(fd_, F_SETFD, FD_CLOEXEC) != 0) {
    return Failed(address_, "the inherited descriptor is no listening socket");
  }
  if (address_.starts_with(kUnix)) {
    kind_ = Kind::kUnix;
    if (!foreign_file_) NoteFile(address_.substr(std::strlen(kUnix)));
    return absl::OkStatus();
  }
  const auto where = ParseSocketAddress(address_);
  if (!where.has_value()) return Failed(address_, "not a numeric address");
  kind_ = where->loopback ? Kind::kLoopback : Kind::kReachable;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  FillInPort();
  return absl::OkStatus();
}

bool Listener::NoteFile(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return false;
  path_ = path;
  device_ = info.st_dev;
  inode_ = info.st_ino;
  return true;
}

void Listener::FillInPort() {
  address_ =
      absl::StrCat(address_.substr(0, address_.rfind(':')), ":", PortOf(fd_));
}

absl::Status Listener::BindUnix(const std::string& path) {
  kind_ = Kind::kUnix;
  sockaddr_un address;
  if (!Fill(path, &address)) {
    return Failed(address_, kPathTooLong);
  }
  fd_ = NewSocket(AF_UNIX);
  if (fd_ < 0) return Failed(address_, std::strerror(errno));
  if (IsStale(path, address)) unlink(path.c_str());
  // The file gets the socket's own mode, less the umask, so at no moment may
  // others connect. chmod then restores what the umask took from the group.
  fchmod(fd_, kSocketMode);
  if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return Failed(address_, std::strerror(errno));
  }
  if (chmod(path.c_str(), kSocketMode) != 0 || !NoteFile(path)) {
    return Failed(address_, std::strerror(errno));
  }
  return absl::OkStatus();
}

Listener::Listener(Listener&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      kind_(other.kind_),
      address_(std::move(other.address_)),
      configured_(std::move(other.configured_)),
      foreign_file_(other.foreign_file_),
      path_(std::exchange(other.path_, "")),
      device_(other.device_),
      inode_(other.inode_) {}

Listener::~Listener() {
  struct stat info;
  // A file that has replaced ours meanwhile stays.
  if (!path_.empty() && lstat(path_.c_str(), &info) == 0 &&
      info.st_dev == device_ && info.st_ino == inode_) {
    unlink(path_.c_str());
  }
  if (fd_ >= 0) close(fd_);
}

}  // namespace hotline::server
