#include "server/front/front_door.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace hotline::server {
namespace {

// Ids of epoll events: the wake-up, then the listeners.
constexpr uint64_t kWake = 0;
constexpr uint64_t kFirstListener = 1;

// Connections accepted at one listener before the next has its turn.
constexpr int kTurn = 64;
// The pause in accepting after accept has failed even with the spare.
constexpr Duration kPause = std::chrono::milliseconds(50);

int OpenSpare() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

// "[::1]:5555" or "127.0.0.1:5555"; mapped IPv4 addresses as IPv4.
std::string PeerOf(const sockaddr_storage& address, std::string* host) {
  char text[INET6_ADDRSTRLEN] = "";
  int port = 0;
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    port = ntohs(in.sin_port);
  } else {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(address);
    port = ntohs(in.sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
      inet_ntop(AF_INET, &in.sin6_addr.s6_addr[12], text, sizeof text);
    } else {
      inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
      *host = absl::StrCat("[", text, "]");
      return absl::StrCat(*host, ":", port);
    }
  }
  *host = text;
  return absl::StrCat(text, ":", port);
}

// The supplementary groups of the process at the other end.
std::vector<gid_t> GroupsOf(int fd) {
  std::vector<gid_t> groups(64);
  socklen_t size = groups.size() * sizeof(gid_t);
  int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (result != 0 && errno == ERANGE) {
    groups.resize(size / sizeof(gid_t));
    result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  groups.resize(result == 0 ? size / sizeof(gid_t) : 0);
  return groups;
}

template <typename Values, typename Value>
bool Has(const Values& values, Value value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

absl::StatusOr<std::unique_ptr<FrontDoor>> FrontDoor::Bind(
    FrontDoorOptions options, const Inherited& inherited) {
  std::unique_ptr<FrontDoor> door(new FrontDoor(std::move(options)));
  door->owns_files_ = inherited.sockets == nullptr;
  for (const std::string& address : door->options_.addresses) {
    auto listener = Listener::Bind(address, inherited);
    if (!listener.ok()) return listener.status();
    door->addresses_.push_back(listener->address());
    door->sockets_.push_back(listener->Describe(inherited.role));
    door->listeners_.push_back(*std::move(listener));
  }
  door->epoll_ = epoll_create1(EPOLL_CLOEXEC);
  door->wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  door->spare_ = OpenSpare();
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWake}};
  if (door->epoll_ < 0 || door->wake_ < 0 || door->spare_ < 0 ||
      epoll_ctl(door->epoll_, EPOLL_CTL_ADD, door->wake_, &event) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen: ", std::strerror(errno)));
  }
  for (size_t i = 0; i < door->listeners_.size(); ++i) {
    event = {.events = 0, .data = {.u64 = kFirstListener + i}};
    epoll_ctl(door->epoll_, EPOLL_CTL_ADD, door->listeners_[i].fd(), &event);
  }
  return door;
}

FrontDoor::FrontDoor(FrontDoorOptions options) : options_(std::move(options)) {}

void FrontDoor::Stop() {
  stopping_ = true;
  Close();
  if (thread_.joinable()) thread_.join();
}

FrontDoor::~FrontDoor() {
  Stop();
  CloseListeners();
  for (const int fd : {epoll_, wake_, spare_}) {
    if (fd >= 0) close(fd);
  }
}

void FrontDoor::Open(Deliver deliver) {
  deliver_ = std::move(deliver);
  SetListening(true);
  thread_ = std::thread([this] { Run(); });
}

void FrontDoor::Close() {
  closing_ = true;
  const uint64_t one = 1;
  // A full counter wakes as well.
  if (wake_ >= 0) (void)!write(wake_, &one, sizeof one);
}

FrontDoorCounts FrontDoor::counts() const {
  FrontDoorCounts counts;
  {
    MutexLock lock(&mu_);
    counts.connections = open_;
  }
  counts.accepted = accepted_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < refused_.size(); ++i) {
    counts.refused[i] = refused_[i].load(std::memory_order_relaxed);
  }
  return counts;
}

void FrontDoor::Run() {
  std::array<epoll_event, 64> events;
  while (!stopping_) {
    const int timeout_ms =
        resume_at_ == kNever ? -1 : static_cast<int>(ToMilliseconds(kPause));
    const int ready =
        epoll_wait(epoll_, events.data(), events.size(), timeout_ms);
    if (closing_) CloseListeners();
    for (int i = 0; i < ready; ++i) {
      const uint64_t id = events[i].data.u64;
      if (id == kWake) {
        uint64_t ignored;
        (void)!read(wake_, &ignored, sizeof ignored);
      } else if (!listeners_.empty()) {
        AcceptFrom(listeners_[id - kFirstListener]);
      }
    }
    if (resume_at_ != kNever && MonotonicNow() >= resume_at_) {
      SetListening(true);
    }
  }
  CloseListeners();
}

void FrontDoor::CloseListeners() {
  resume_at_ = kNever;
  for (Listener& listener : listeners_) {
    // Closing does not end the watch of a socket that another process has, too.
    epoll_ctl(epoll_, EPOLL_CTL_DEL, listener.fd(), nullptr);
    if (!owns_files_) listener.KeepFile();
  }
  listeners_.clear();
}

void FrontDoor::SetListening(bool on) {
  resume_at_ = on ? kNever : MonotonicNow() + kPause;
  for (size_t i = 0; i < listeners_.size(); ++i) {
    epoll_event event{.events = on ? uint32_t{EPOLLIN} : 0,
                      .data = {.u64 = kFirstListener + i}};
    epoll_ctl(epoll_, EPOLL_CTL_MOD, listeners_[i].fd(), &event);
  }
}

void FrontDoor::AcceptFrom(const Listener& listener) {
  for (int i = 0; i < kTurn; ++i) {
    if (!AcceptOne(listener)) return;
  }
}

bool FrontDoor::AcceptOne(const Listener& listener) {
  const int fd =
      accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    if (error == EAGAIN || error == EWOULDBLOCK) return false;
    if (error == EINTR || error == ECONNABORTED) return true;
    OnAcceptFailed(listener, error);
    return resume_at_ == kNever;
  }
  Admit(fd, listener.kind());
  return true;
}

void FrontDoor::OnAcceptFailed(const Listener& listener, int error) {
  static LogLimiter limiter(std::chrono::seconds(10));
  HOTLINE_LOG_LIMITED(limiter, kWarning, "cannot accept a connection",
                      {{"address", listener.address()},
                       {"error", std::strerror(error)},
                       {"suppressed", limiter.TakeSuppressed()}});
  if ((error == EMFILE || error == ENFILE) && spare_ >= 0) {
    close(spare_);
    const int fd = accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) Refuse(fd, Refusal::kDescriptors);
    spare_ = OpenSpare();
    if (fd >= 0 && spare_ >= 0) return;
  }
  // The descriptor was taken by another thread, or memory is short.
  if (spare_ < 0) spare_ = OpenSpare();
  SetListening(false);
}

bool FrontDoor::Identify(int fd, Visitor* visitor) const {
  if (visitor->kind != Listener::Kind::kUnix) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    // If the peer is gone, its end is detected later.
    getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size);
    visitor->peer = PeerOf(address, &visitor->group);
    return true;
  }
  ucred credentials;
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return false;
  }
  visitor->uid = credentials.uid;
  visitor->gid = credentials.gid;
  visitor->group = visitor->peer = absl::StrCat("uid:", visitor->uid);
  return Allowed(fd, *visitor);
}

bool FrontDoor::Allowed(int fd, const Visitor& visitor) const {
  if (options_.allowed_uids.empty() && options_.allowed_gids.empty()) {
    return true;
  }
  if (Has(options_.allowed_uids, visitor.uid)) return true;
  if (options_.allowed_gids.empty()) return false;
  if (Has(options_.allowed_gids, visitor.gid)) return true;
  for (const gid_t group : GroupsOf(fd)) {
    if (Has(options_.allowed_gids, group)) return true;
  }
  return false;
}

void FrontDoor::Admit(int fd, Listener::Kind kind) {
  Visitor visitor;
  visitor.kind = kind;
  if (!Identify(fd, &visitor)) return Refuse(fd, Refusal::kCredentials);
  if (const auto refused = Enter(visitor)) return Refuse(fd, *refused);
  accepted_.fetch_add(1, std::memory_order_relaxed);
  deliver_(fd, visitor);
}

std::optional<Refusal> FrontDoor::Enter(const Visitor& visitor) {
  MutexLock lock(&mu_);
  if (open_ >= options_.max_connections) return Refusal::kConnections;
  const int most = options_.max_connections_per_peer;
  const auto group = groups_.find(visitor.group);
  if (most > 0 && group != groups_.end() && group->second >= most) {
    return Refusal::kPeer;
  }
  ++open_;
  if (group != groups_.end()) {
    ++group->second;
  } else {
    groups_.emplace(visitor.group, 1);
  }
  return std::nullopt;
}

void FrontDoor::Leave(const Visitor& visitor) {
  MutexLock lock(&mu_);
  const auto group = groups_.find(visitor.group);
  if (group == groups_.end()) return;
  --open_;
  if (--group->second == 0) groups_.erase(group);
}

void FrontDoor::Refuse(int fd, Refusal why) {
  Count(why);
  close(fd);
}

}  // namespace hotline::server
