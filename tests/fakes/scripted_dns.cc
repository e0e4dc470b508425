#include "tests/fakes/scripted_dns.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace hotline::testing {
namespace {

constexpr size_t kHeaderBytes = 12;
constexpr int kTypeA = 1;
constexpr int kTypeAaaa = 28;

void Append16(std::string* out, int value) {
  out->push_back(static_cast<char>(value >> 8));
  out->push_back(static_cast<char>(value));
}

// The name asked for, dotted; `end` is where it stops.
std::string NameIn(const std::string& message, size_t* end) {
  std::string name;
  size_t at = kHeaderBytes;
  while (at < message.size() && message[at] != 0) {
    const auto length = static_cast<unsigned char>(message[at]);
    if (!name.empty()) name.push_back('.');
    name += message.substr(at + 1, length);
    at += length + 1;
  }
  *end = at + 1;
  return name;
}

}  // namespace

ScriptedDns::ScriptedDns(std::map<std::string, Entry> entries,
                         const std::string& ip, int port)
    : ip_(ip), entries_(std::move(entries)) {
  fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, ip.c_str(), &address.sin_addr);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd_, generic, length) == 0 &&
      getsockname(fd_, generic, &length) == 0) {
    port_ = ntohs(address.sin_port);
  }
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this] { Serve(); });
}

ScriptedDns::~ScriptedDns() {
  const uint64_t one = 1;
  if (write(stop_fd_, &one, sizeof one) == sizeof one) thread_.join();
  close(fd_);
  close(stop_fd_);
}

std::string ScriptedDns::address() const {
  return ip_ + ":" + std::to_string(port_);
}

void ScriptedDns::Set(const std::string& name, Entry entry) {
  std::lock_guard lock(mu_);
  entries_[name] = std::move(entry);
}

int ScriptedDns::questions(const std::string& name) const {
  std::lock_guard lock(mu_);
  const auto it = questions_.find(name);
  return it == questions_.end() ? 0 : it->second;
}

void ScriptedDns::Serve() {
  for (;;) {
    pollfd waits[2] = {{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    if (poll(waits, 2, -1) < 0) continue;
    if ((waits[1].revents & POLLIN) != 0) return;
    char buffer[2048];
    Question question;
    socklen_t length = sizeof question.from;
    const ssize_t size =
        recvfrom(fd_, buffer, sizeof buffer, 0,
                 reinterpret_cast<sockaddr*>(&question.from), &length);
    if (size < static_cast<ssize_t>(kHeaderBytes)) continue;
    question.message.assign(buffer, static_cast<size_t>(size));
    Send(AnswerTo(question, /*released=*/false), question);
  }
}

void ScriptedDns::Send(const std::string& answer,
                       const Question& question) const {
  if (answer.empty()) return;
  sendto(fd_, answer.data(), answer.size(), 0,
         reinterpret_cast<const sockaddr*>(&question.from),
         sizeof question.from);
}

bool ScriptedDns::Release(const std::string& name) {
  std::vector<Question> held;
  {
    std::lock_guard lock(mu_);
    held.swap(held_[name]);
  }
  for (const Question& question : held) {
    Send(AnswerTo(question, /*released=*/true), question);
  }
  return !held.empty();
}

std::vector<std::string> ScriptedDns::names() const {
  std::lock_guard lock(mu_);
  return names_;
}

std::string ScriptedDns::AnswerTo(const Question& asked, bool released) {
  const std::string& question = asked.message;
  size_t end = 0;
  const std::string name = NameIn(question, &end);
  if (question.size() < end + 4) return "";
  const int type = static_cast<unsigned char>(question[end + 1]);
  Entry entry;
  Manner manner;
  {
    std::lock_guard lock(mu_);
    if (type == kTypeA && !released) ++questions_[name];
    if (std::find(names_.begin(), names_.end(), name) == names_.end()) {
      names_.push_back(name);
    }
    const auto it = entries_.find(name);
    if (it != entries_.end()) entry = it->second;
    manner = type == kTypeA ? entry.v4 : entry.v6;
    if (manner == Manner::kHeld && !released) held_[name].push_back(asked);
  }
  if (entry.silent || manner == Manner::kSilent ||
      (manner == Manner::kHeld && !released)) {
    return "";
  }
  std::string records;
  int count = 0;
  for (const std::string& address : entry.addresses) {
    const bool v6 = address.find(':') != std::string::npos;
    if (type != (v6 ? kTypeAaaa : kTypeA)) continue;
    char bytes[16];
    inet_pton(v6 ? AF_INET6 : AF_INET, address.c_str(), bytes);
    Append16(&records, 0xc000 | kHeaderBytes);  // The name: see above.
    Append16(&records, type);
    Append16(&records, 1);
    Append16(&records, static_cast<int>(entry.ttl_s >> 16));
    Append16(&records, static_cast<int>(entry.ttl_s & 0xffff));
    Append16(&records, v6 ? 16 : 4);
    records.append(bytes, v6 ? 16 : 4);
    ++count;
  }
  constexpr int kAnswer = 0x8180;
  constexpr int kServerFailure = 2;
  constexpr int kNoSuchName = 3;
  if (manner == Manner::kFails) {
    records.clear();
    count = 0;
  }
  std::string out = question.substr(0, 2);
  Append16(&out, kAnswer | (manner == Manner::kFails  ? kServerFailure
                            : entry.addresses.empty() ? kNoSuchName
                                                      : 0));
  Append16(&out, 1);
  Append16(&out, count);
  Append16(&out, 0);
  Append16(&out, 0);
  return out + question.substr(kHeaderBytes, end + 4 - kHeaderBytes) + records;
}

}  // namespace hotline::testing
