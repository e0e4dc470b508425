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

// Ids of epoll events: the wake-up, then the listeners, then the connections.
constexpr uint64_t kWake = 0;
constexpr uint64_t kFirstListener = 1;

constexpr int kTickMs = 100;
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

// Reads and discards the rest of a connection that is shut down.
void Discard(int fd) {
  char scrap[16 << 10];
  while (recv(fd, scrap, sizeof scrap, MSG_DONTWAIT) > 0) {
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<FrontDoor>> FrontDoor::Bind(
    FrontDoorOptions options) {
  std::unique_ptr<FrontDoor> door(new FrontDoor(std::move(options)));
  for (const std::string& address : door->options_.addresses) {
    auto listener = Listener::Bind(address);
    if (!listener.ok()) return listener.status();
    door->addresses_.push_back(listener->address());
    door->kinds_.push_back(listener->kind());
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
  door->next_id_ = kFirstListener + door->listeners_.size();
  return door;
}

FrontDoor::FrontDoor(FrontDoorOptions options)
    : options_(std::move(options)), next_id_(kFirstListener) {}

void FrontDoor::Stop() {
  stopping_ = true;
  Close();
  if (thread_.joinable()) thread_.join();
}

FrontDoor::~FrontDoor() {
  Stop();
  for (const auto& [unused, connection] : connections_) close(connection.fd);
  for (const int fd : {epoll_, wake_, spare_}) {
    if (fd >= 0) close(fd);
  }
}

void FrontDoor::Open(Deliver deliver, OnTick on_tick) {
  deliver_ = std::move(deliver);
  on_tick_ = std::move(on_tick);
  SetListening(true);
  thread_ = std::thread([this] { Run(); });
}

void FrontDoor::Close() {
  closing_ = true;
  const uint64_t one = 1;
  // A full counter wakes as well.
  if (wake_ >= 0) (void)!write(wake_, &one, sizeof one);
}

bool FrontDoor::has(Listener::Kind kind) const { return Has(kinds_, kind); }

FrontDoorCounts FrontDoor::counts() const {
  FrontDoorCounts counts;
  counts.connections = open_.load(std::memory_order_relaxed);
  counts.accepted = accepted_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < refused_.size(); ++i) {
    counts.refused[i] = refused_[i].load(std::memory_order_relaxed);
  }
  return counts;
}

void FrontDoor::Run() {
  std::array<epoll_event, 128> events;
  Instant next_tick = MonotonicNow();
  while (!stopping_) {
    const bool ticking = !connections_.empty() || tick_again_;
    const bool quiet = !ticking && resume_at_ == kNever;
    const int ready =
        epoll_wait(epoll_, events.data(), events.size(), quiet ? -1 : kTickMs);
    if (closing_) CloseListeners();
    for (int i = 0; i < ready; ++i) {
      const uint64_t id = events[i].data.u64;
      if (id == kWake) {
        uint64_t ignored;
        (void)!read(wake_, &ignored, sizeof ignored);
      } else if (id < kFirstListener + kinds_.size()) {
        if (!listeners_.empty()) AcceptFrom(listeners_[id - kFirstListener]);
      } else {
        Forget(id);
      }
    }
    const Instant now = MonotonicNow();
    if (now >= resume_at_) SetListening(true);
    if (on_tick_ != nullptr && now >= next_tick && ticking) {
      tick_again_ = on_tick_();
      next_tick = now + std::chrono::milliseconds(kTickMs);
    }
  }
  CloseListeners();
}

void FrontDoor::CloseListeners() {
  resume_at_ = kNever;
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

bool FrontDoor::Identify(int fd, Visitor* visitor, std::string* group) const {
  if (visitor->kind != Listener::Kind::kUnix) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    // If the peer is gone, its end is detected later.
    getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size);
    visitor->peer = PeerOf(address, group);
    return true;
  }
  ucred credentials;
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return false;
  }
  visitor->uid = credentials.uid;
  visitor->gid = credentials.gid;
  *group = visitor->peer = absl::StrCat("uid:", visitor->uid);
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
  if (static_cast<int>(connections_.size()) >= options_.max_connections) {
    return Refuse(fd, Refusal::kConnections);
  }
  Visitor visitor;
  visitor.kind = kind;
  std::string group;
  if (!Identify(fd, &visitor, &group)) return Refuse(fd, Refusal::kCredentials);
  int& mine = groups_[group];
  if (options_.max_connections_per_peer > 0 &&
      mine >= options_.max_connections_per_peer) {
    return Refuse(fd, Refusal::kPeer);
  }
  const int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  const uint64_t id = next_id_++;
  epoll_event event{.events = EPOLLRDHUP | EPOLLET, .data = {.u64 = id}};
  if (duplicate < 0 ||
      epoll_ctl(epoll_, EPOLL_CTL_ADD, duplicate, &event) != 0) {
    if (duplicate >= 0) close(duplicate);
    if (mine == 0) groups_.erase(group);
    return Refuse(fd, Refusal::kDescriptors);
  }
  ++mine;
  accepted_.fetch_add(1, std::memory_order_relaxed);
  Connection& connection = connections_[id];
  connection.fd = duplicate;
  connection.peer = visitor.peer;
  connection.group = std::move(group);
  open_.store(connections_.size(), std::memory_order_relaxed);
  visitor.id = id;
  deliver_(fd, visitor);
}

void FrontDoor::Refuse(int fd, Refusal why) {
  Count(why);
  close(fd);
}

void FrontDoor::Forget(uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  const auto group = groups_.find(found->second.group);
  if (--group->second == 0) groups_.erase(group);
  close(found->second.fd);
  connections_.erase(found);
  open_.store(connections_.size(), std::memory_order_relaxed);
}

bool FrontDoor::CutOff(uint64_t id, std::string_view peer) {
  const auto found =
      id != 0
          ? connections_.find(id)
          : std::find_if(connections_.begin(), connections_.end(),
                         [peer](const auto& entry) {
                           return std::string_view(entry.second.peer) == peer;
                         });
  if (found == connections_.end() || found->second.cut_off) return false;
  found->second.cut_off = true;
  Count(Refusal::kResets);
  // gRPC reads the end of its descriptor; the door that of its duplicate.
  shutdown(found->second.fd, SHUT_RDWR);
  Discard(found->second.fd);
  return true;
}

void FrontDoor::Count(Refusal why) {
  refused_[static_cast<size_t>(why)].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace hotline::server
