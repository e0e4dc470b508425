#include "server/daemon/takeover.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "server/daemon/warm_set.h"

namespace hotline::server {
namespace {

constexpr char kRole[] = "takeover";  // Of the socket that takers connect to.

// What is sent. The number of the protocol's version is in the first byte.
constexpr char kTake = 'T';
constexpr char kServing = 'S';
constexpr char kAcknowledged = 'A';
// Begin an answer: then come its length and its payload.
constexpr char kSockets = 'H';
constexpr char kRefused = 'R';

// The kernel's limit for one message is 253.
constexpr size_t kMostDescriptors = 250;
constexpr uint32_t kMostPayload = 64 << 10;
constexpr Duration kGreetingTime = std::chrono::seconds(5);
constexpr int kAnswerSeconds = 10;

std::string Framed(char kind, std::string_view payload) {
  const auto size = static_cast<uint32_t>(payload.size());
  std::string out(1, kind);
  out.append(reinterpret_cast<const char*>(&size), sizeof size);
  out.append(payload);
  return out;
}

bool SendByte(int fd, char byte) {
  return send(fd, &byte, 1, MSG_NOSIGNAL) == 1;
}

// The fields end with a NUL, which neither addresses nor paths contain.
std::string Pack(const std::vector<ListeningSocket>& sockets) {
  std::string out = absl::StrCat(getpid());
  out.push_back('\0');
  for (const ListeningSocket& socket : sockets) {
    for (const std::string& field :
         {socket.role, socket.address,
          std::string(socket.keeps_file ? "keep" : "own")}) {
      out.append(field);
      out.push_back('\0');
    }
  }
  return out;
}

// A file in memory with this content; -1: see errno.
int FileWith(const std::string& content) {
  const int fd = memfd_create("hotline-warm-set", MFD_CLOEXEC);
  size_t done = 0;
  while (fd >= 0 && done < content.size()) {
    const ssize_t size =
        pwrite(fd, content.data() + done, content.size() - done,
               static_cast<off_t>(done));
    if (size <= 0) {
      close(fd);
      return -1;
    }
    done += static_cast<size_t>(size);
  }
  return fd;
}

std::string ContentOf(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size < 0 ||
      static_cast<size_t>(info.st_size) > kMostWarmSetBytes) {
    return "";
  }
  std::string content(static_cast<size_t>(info.st_size), '\0');
  const ssize_t size = pread(fd, content.data(), content.size(), 0);
  content.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return content;
}

// Sends all of it at once, with the descriptors.
bool SendWith(int fd, const std::string& message, const std::vector<int>& fds) {
  iovec part{.iov_base = const_cast<char*>(message.data()),
             .iov_len = message.size()};
  std::string control(CMSG_SPACE(fds.size() * sizeof(int)), '\0');
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* const rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(rights), fds.data(), fds.size() * sizeof(int));
  return sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(message.size());
}

// Appends what one message brings. False: the end, an error or a timeout.
bool ReceiveSome(int fd, std::string* bytes, std::vector<int>* fds) {
  char buffer[4096];
  iovec part{.iov_base = buffer, .iov_len = sizeof buffer};
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t size = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  if (size <= 0) return false;
  bytes->append(buffer, static_cast<size_t>(size));
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr;
       item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const size_t before = fds->size();
    fds->resize(before + count);
    std::memcpy(fds->data() + before, CMSG_DATA(item), count * sizeof(int));
  }
  return true;
}

absl::Status Failed(std::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("cannot take over: ", std::string(why)));
}

bool CredentialsOf(int fd, ucred* peer) {
  socklen_t size = sizeof *peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size) == 0;
}

}  // namespace

// The old process.

absl::StatusOr<std::unique_ptr<TakeoverServer>> TakeoverServer::Start(
    const std::string& path, InheritedSockets* inherited, uid_t user) {
  auto listener =
      Listener::Bind(absl::StrCat("unix://", path), {inherited, kRole});
  if (!listener.ok()) return listener.status();
  std::unique_ptr<TakeoverServer> server(
      new TakeoverServer(*std::move(listener), user));
  server->owns_file_ = inherited == nullptr;
  return server;
}

TakeoverServer::TakeoverServer(Listener listener, uid_t user)
    : listener_(std::move(listener)), user_(user) {}

TakeoverServer::~TakeoverServer() {
  if (!owns_file_) listener_.KeepFile();
  if (taker_ >= 0) close(taker_);
}

std::vector<pollfd> TakeoverServer::Watched() const {
  std::vector<pollfd> out = {
      {.fd = listener_.fd(), .events = POLLIN, .revents = 0}};
  if (taker_ >= 0)
    out.push_back({.fd = taker_, .events = POLLIN, .revents = 0});
  return out;
}

std::optional<pid_t> TakeoverServer::Step(
    Instant now, absl::FunctionRef<HandOver()> hand_over) {
  // The taker first: if it has ended, another may take over.
  const bool serves = taker_ >= 0 && HearTaker(now, hand_over);
  if (serves) return taker_pid_;
  Accept(now);
  return std::nullopt;
}

bool TakeoverServer::HearTaker(Instant now,
                               absl::FunctionRef<HandOver()> hand_over) {
  char byte = 0;
  const ssize_t size = recv(taker_, &byte, 1, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
    if (now >= deadline_) Drop("it says nothing");
  } else if (size <= 0) {
    Drop("it ended before it served");
  } else if (byte == kTake && !handed_) {
    Answer(hand_over());
  } else if (byte == kServing && handed_) {
    return true;
  } else {
    Drop("it speaks another version");
  }
  return false;
}

void TakeoverServer::Accept(Instant now) {
  for (;;) {
    const int fd =
        accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    ucred peer{};
    const std::string refused = CredentialsOf(fd, &peer)
                                    ? WhyRefused(peer)
                                    : std::string("it has no credentials");
    if (refused.empty()) {
      taker_ = fd;
      taker_pid_ = peer.pid;
      handed_ = false;
      deadline_ = SaturatingAdd(now, kGreetingTime);
      continue;
    }
    HOTLINE_LOG(kWarning, "a takeover was refused",
                {{"pid", peer.pid}, {"uid", peer.uid}, {"error", refused}});
    const std::string answer = Framed(kRefused, refused);
    (void)!send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
    close(fd);
  }
}

std::string TakeoverServer::WhyRefused(const ucred& peer) const {
  if (peer.uid != user_) {
    return absl::StrCat("uid ", peer.uid, " is not the running process's ",
                        user_);
  }
  if (taker_ < 0) return "";
  return absl::StrCat("process ", taker_pid_, " is taking over");
}

void TakeoverServer::Answer(HandOver hand_over) {
  std::vector<ListeningSocket>& sockets = hand_over.sockets;
  sockets.push_back(listener_.Describe(kRole));
  std::vector<int> fds;
  for (const ListeningSocket& socket : sockets) fds.push_back(socket.fd);
  const int warm_set = FileWith(hand_over.warm_set);
  if (warm_set >= 0) fds.push_back(warm_set);
  const std::string payload = Pack(sockets);
  handed_ = fds.size() <= kMostDescriptors && payload.size() <= kMostPayload &&
            SendWith(taker_, Framed(kSockets, payload), fds);
  if (warm_set >= 0) close(warm_set);
  if (!handed_) return Drop("the sockets cannot be sent");
  deadline_ = kNever;
  HOTLINE_LOG(kInfo, "a new process prepares to take over",
              {{"pid", taker_pid_}, {"sockets", sockets.size()}});
}

void TakeoverServer::Drop(const char* why) {
  HOTLINE_LOG(kWarning, "no takeover: this process goes on",
              {{"pid", taker_pid_}, {"error", why}});
  close(taker_);
  taker_ = -1;
  deadline_ = kNever;
}

void TakeoverServer::Acknowledge() {
  // If it has ended by now, nothing would be left to tell.
  (void)SendByte(taker_, kAcknowledged);
}

// The new process.

absl::StatusOr<std::unique_ptr<Predecessor>> Predecessor::Find(
    const std::string& path, uid_t user) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failed(std::strerror(errno));
  std::unique_ptr<Predecessor> found(new Predecessor(fd));
  absl::Status status = found->Connect(path, user);
  if (absl::IsNotFound(status)) return nullptr;
  if (status.ok()) status = found->Receive();
  if (!status.ok()) return status;
  return found;
}

Predecessor::~Predecessor() { close(fd_); }

// NOT_FOUND: no process listens there.
absl::Status Predecessor::Connect(const std::string& path, uid_t user) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (path.size() >= sizeof to.sun_path) {
    return Failed(absl::StrCat(path, ": the path is too long"));
  }
  std::memcpy(to.sun_path, path.data(), path.size());
  const timeval limit{.tv_sec = kAnswerSeconds, .tv_usec = 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return absl::NotFoundError(path);
    }
    return Failed(absl::StrCat(path, ": ", std::strerror(errno)));
  }
  ucred peer{};
  if (!CredentialsOf(fd_, &peer) || peer.uid != user) {
    return absl::PermissionDeniedError(absl::StrCat(
        "cannot take over: the process at ", path, " is another user's"));
  }
  // If it refuses at once, its answer says why.
  (void)SendByte(fd_, kTake);
  return absl::OkStatus();
}

absl::Status Predecessor::Receive() {
  constexpr size_t kHead = 1 + sizeof(uint32_t);
  std::string bytes;
  std::vector<int> fds;
  uint32_t size = 0;
  while (bytes.size() < kHead || bytes.size() < kHead + size) {
    if (!ReceiveSome(fd_, &bytes, &fds)) break;
    if (bytes.size() < kHead) continue;
    std::memcpy(&size, bytes.data() + 1, sizeof size);
    if (size > kMostPayload) break;
  }
  const bool whole = bytes.size() >= kHead && bytes.size() == kHead + size;
  if (whole && bytes[0] == kSockets) {
    return Unpack(std::string_view(bytes).substr(kHead), std::move(fds));
  }
  for (const int fd : fds) close(fd);
  if (whole && bytes[0] == kRefused) return Failed(bytes.substr(kHead));
  return Failed("the running process does not answer");
}

absl::Status Predecessor::Unpack(std::string_view payload,
                                 std::vector<int> fds) {
  const std::vector<std::string> fields =
      absl::StrSplit(absl::string_view(payload.data(), payload.size()), '\0');
  // The number of its process, three for each socket, and an empty one.
  const size_t sockets = fields.size() < 2 ? 0 : (fields.size() - 2) / 3;
  const bool valid = fields.size() == 2 + 3 * sockets &&
                     (fds.size() == sockets || fds.size() == sockets + 1) &&
                     absl::SimpleAtoi(fields[0], &pid_);
  if (!valid) {
    for (const int fd : fds) close(fd);
    return Failed("the running process sends another version's answer");
  }
  for (size_t i = 0; i < sockets; ++i) {
    sockets_.Add({.fd = fds[i],
                  .role = fields[1 + 3 * i],
                  .address = fields[2 + 3 * i],
                  .keeps_file = fields[3 + 3 * i] == "keep"});
  }
  if (fds.size() > sockets) {
    warm_set_ = ContentOf(fds.back());
    close(fds.back());
  }
  return absl::OkStatus();
}

bool Predecessor::AliveFor(Duration length) const {
  pollfd end{.fd = fd_, .events = POLLIN, .revents = 0};
  return poll(&end, 1, static_cast<int>(ToMilliseconds(length))) == 0;
}

absl::Status Predecessor::Finish() {
  char byte = 0;
  if (SendByte(fd_, kServing) && recv(fd_, &byte, 1, 0) == 1 &&
      byte == kAcknowledged) {
    return absl::OkStatus();
  }
  return Failed("the running process has ended, or does not answer");
}

}  // namespace hotline::server
