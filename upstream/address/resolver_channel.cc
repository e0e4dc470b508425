#include "upstream/address/resolver_channel.h"

#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
// c-ares needs the types above before its own header.
#include <arpa/nameser.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace hotline::upstream {
namespace {

namespace asio = boost::asio;
using Answer = ResolverChannel::Answer;

constexpr int kFirstTimeoutMs = 2000;  // Doubles with each try.
constexpr int kTries = 3;
// Of one answer; AddressBook keeps fewer.
constexpr int kMostAddresses = 256;
constexpr size_t kMostNameBytes = 253;

// c-ares needs this once per process, before any channel.
int InitLibrary() {
  static const int result = ares_library_init(ARES_LIB_INIT_ALL);
  return result;
}

IpAddress V4Of(const in_addr& in) {
  IpAddress address;
  memcpy(address.bytes.data(), &in, 4);
  return address;
}

IpAddress V6Of(const void* in6) {
  IpAddress address;
  address.v6 = true;
  memcpy(address.bytes.data(), in6, 16);
  return address;
}

// For records of either family.
template <typename Record>
void Take(const Record* records, int count, IpAddress (*convert)(const Record&),
          Answer* answer) {
  answer->ttl = Resolver::kMaxTtl;
  for (int i = 0; i < count; ++i) {
    answer->addresses.push_back(convert(records[i]));
    const Duration ttl = std::chrono::seconds(std::max(records[i].ttl, 0));
    answer->ttl = std::min(answer->ttl, ttl);
  }
  answer->ttl = std::max(answer->ttl, Resolver::kMinTtl);
}

int Parse(ResolverChannel::Family family, const unsigned char* message,
          int size, Answer* answer) {
  int count = kMostAddresses;
  if (family == ResolverChannel::Family::kV4) {
    ares_addrttl records[kMostAddresses];
    const int status =
        ares_parse_a_reply(message, size, nullptr, records, &count);
    if (status != ARES_SUCCESS) return status;
    Take<ares_addrttl>(
        records, count, [](const auto& r) { return V4Of(r.ipaddr); }, answer);
  } else {
    ares_addr6ttl records[kMostAddresses];
    const int status =
        ares_parse_aaaa_reply(message, size, nullptr, records, &count);
    if (status != ARES_SUCCESS) return status;
    Take<ares_addr6ttl>(
        records, count, [](const auto& r) { return V6Of(&r.ip6addr); }, answer);
  }
  return count > 0 ? ARES_SUCCESS : ARES_ENODATA;
}

struct Pending {
  ResolverChannel::Family family;
  ResolverChannel::Done done;
};

void OnAnswer(void* pending, int status, int, unsigned char* message,
              int size) {
  const std::unique_ptr<Pending> asked(static_cast<Pending*>(pending));
  // The channel is being destroyed; its owner expects no answer.
  if (status == ARES_EDESTRUCTION) return;
  Answer answer;
  if (status == ARES_SUCCESS) {
    status = Parse(asked->family, message, size, &answer);
  }
  answer.kind = status == ARES_SUCCESS     ? Answer::Kind::kAddresses
                : status == ARES_ENODATA   ? Answer::Kind::kNone
                : status == ARES_ENOTFOUND ? Answer::Kind::kNoName
                                           : Answer::Kind::kFailed;
  if (status != ARES_SUCCESS) answer.why = ares_strerror(status);
  asked->done(std::move(answer));
}

// Called before ares_getaddrinfo returns: reading a file does not wait.
void OnHosts(void* addresses, int status, int, ares_addrinfo* info) {
  auto* const out = static_cast<Addresses*>(addresses);
  if (info == nullptr) return;
  for (auto* node = info->nodes; status == ARES_SUCCESS && node != nullptr;
       node = node->ai_next) {
    if (node->ai_family == AF_INET) {
      out->push_back(
          V4Of(reinterpret_cast<const sockaddr_in*>(node->ai_addr)->sin_addr));
    } else if (node->ai_family == AF_INET6) {
      out->push_back(V6Of(
          &reinterpret_cast<const sockaddr_in6*>(node->ai_addr)->sin6_addr));
    }
  }
  ares_freeaddrinfo(info);
}

}  // namespace

struct ResolverChannel::Watched {
  explicit Watched(asio::io_context& io) : descriptor(io) {}
  asio::posix::stream_descriptor descriptor;
  bool gone = false;  // Closed; its number may have been reused.
  bool want_read = false;
  bool want_write = false;
  bool reading = false;
  bool writing = false;
};

ResolverChannel::ResolverChannel(asio::io_context* io,
                                 std::vector<std::string> servers,
                                 ResolvConf system,
                                 absl::AnyInvocable<void()> replaced)
    : io_(*io),
      servers_(std::move(servers)),
      system_(std::move(system)),
      replaced_(std::move(replaced)),
      timer_(*io) {}

ResolverChannel::~ResolverChannel() {
  timer_.cancel();
  if (channel_ != nullptr) ares_destroy(channel_);
  if (hosts_ != nullptr) ares_destroy(hosts_);
}

absl::Status ResolverChannel::Init() {
  if (InitLibrary() != ARES_SUCCESS) {
    return absl::InternalError("c-ares cannot be initialized");
  }
  char file_only[] = "f";
  ares_options options{};
  options.lookups = file_only;
  const int result =
      ares_init_options(&hosts_, &options, ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS);
  if (result != ARES_SUCCESS) {
    hosts_ = nullptr;
    return absl::InternalError(
        absl::StrCat("c-ares cannot be initialized: ", ares_strerror(result)));
  }
  version_ = FileStamp::Of(system_.path);
  const auto channel = Open();
  if (channel.ok()) Adopt(*channel);
  return channel.status();
}

absl::StatusOr<ares_channeldata*> ResolverChannel::Open() const {
  std::string path = system_.path;
  ares_options options{};
  options.timeout = kFirstTimeoutMs;
  options.tries = kTries;
  options.udp_port = options.tcp_port = system_.port;
  options.resolvconf_path = path.data();
  options.sock_state_cb = &ResolverChannel::OnSocketState;
  options.sock_state_cb_data = const_cast<ResolverChannel*>(this);
  ares_channeldata* channel = nullptr;
  const int result = ares_init_options(
      &channel, &options,
      ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB |
          ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT | ARES_OPT_RESOLVCONF);
  if (result != ARES_SUCCESS) {
    return absl::InternalError(
        absl::StrCat("c-ares cannot be initialized: ", ares_strerror(result)));
  }
  const std::string all = absl::StrJoin(servers_, ",");
  if (!servers_.empty() &&
      ares_set_servers_ports_csv(channel, all.c_str()) != ARES_SUCCESS) {
    ares_destroy(channel);
    return absl::InvalidArgumentError(
        absl::StrCat("DNS servers \"", all, "\" do not parse"));
  }
  return channel;
}

// Copies the system's configuration as c-ares has read it.
void ResolverChannel::Adopt(ares_channeldata* channel) {
  if (channel_ != nullptr) ares_destroy(channel_);
  channel_ = channel;
  ares_options options{};
  int mask = 0;
  if (ares_save_options(channel_, &options, &mask) != ARES_SUCCESS) return;
  ndots_ = options.ndots;
  domains_.assign(options.domains, options.domains + options.ndomains);
  const std::string_view lookups =
      options.lookups == nullptr ? "fb" : options.lookups;
  hosts_count_ = lookups.find('f') != std::string_view::npos;
  dns_counts_ = lookups.find('b') != std::string_view::npos;
  hosts_come_first_ = lookups.find('f') < lookups.find('b');
  ares_destroy_options(&options);
}

bool ResolverChannel::Refresh() {
  const FileStamp now = FileStamp::Of(system_.path);
  if (now == version_) return false;
  version_ = now;
  const auto channel = Open();
  if (!channel.ok()) return false;
  Adopt(*channel);
  return true;
}

std::vector<std::string> ResolverChannel::Candidates(
    const std::string& host) const {
  if (!dns_counts_) return {};
  if (host.ends_with('.')) return {host};
  std::vector<std::string> names;
  const bool early = std::count(host.begin(), host.end(), '.') >= ndots_;
  if (early) names.push_back(host);
  for (const std::string& domain : domains_) {
    std::string name = absl::StrCat(host, ".", domain);
    if (!domain.empty() && domain != "." && name.size() <= kMostNameBytes) {
      names.push_back(std::move(name));
    }
  }
  if (!early) names.push_back(host);
  return names;
}

Addresses ResolverChannel::Hosts(const std::string& host) {
  Addresses addresses;
  if (!hosts_count_) return addresses;
  ares_addrinfo_hints hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = ARES_AI_NOSORT;
  ares_getaddrinfo(hosts_, host.c_str(), nullptr, &hints, &OnHosts, &addresses);
  return addresses;
}

void ResolverChannel::Ask(const std::string& name, Family family, Done done) {
  ares_query(channel_, name.c_str(), ns_c_in,
             family == Family::kV4 ? ns_t_a : ns_t_aaaa, &OnAnswer,
             new Pending{family, std::move(done)});
  SetTimer();
}

// c-ares's wish to watch a socket; neither `read` nor `write`: it is about to
// close the socket.
void ResolverChannel::OnSocketState(void* self, int fd, int read, int write) {
  static_cast<ResolverChannel*>(self)->Watch(fd, read != 0, write != 0);
}

void ResolverChannel::Watch(int fd, bool read, bool write) {
  auto it = watched_.find(fd);
  if (!read && !write) {
    if (it == watched_.end()) return;
    // c-ares owns the socket and closes it.
    it->second->gone = true;
    it->second->descriptor.release();
    watched_.erase(it);
    return;
  }
  if (it == watched_.end()) {
    auto watched = std::make_shared<Watched>(io_);
    boost::system::error_code error;
    watched->descriptor.assign(fd, error);
    if (error) return;  // The query will time out.
    it = watched_.emplace(fd, std::move(watched)).first;
  }
  it->second->want_read = read;
  it->second->want_write = write;
  Await(fd, it->second);
}

void ResolverChannel::Await(int fd, const std::shared_ptr<Watched>& watched) {
  if (watched->want_read && !watched->reading) {
    watched->reading = true;
    watched->descriptor.async_wait(
        asio::posix::stream_descriptor::wait_read,
        [this, fd, watched](const boost::system::error_code& error) {
          watched->reading = false;
          if (!error && !watched->gone) Process(watched, fd, ARES_SOCKET_BAD);
        });
  }
  if (watched->want_write && !watched->writing) {
    watched->writing = true;
    watched->descriptor.async_wait(
        asio::posix::stream_descriptor::wait_write,
        [this, fd, watched](const boost::system::error_code& error) {
          watched->writing = false;
          if (!error && !watched->gone) Process(watched, ARES_SOCKET_BAD, fd);
        });
  }
}

void ResolverChannel::Process(const std::shared_ptr<Watched>& watched,
                              int readable, int writable) {
  ares_process_fd(channel_, readable, writable);
  if (!watched->gone) {
    Await(readable == ARES_SOCKET_BAD ? writable : readable, watched);
  }
  SetTimer();
}

void ResolverChannel::SetTimer() {
  timeval most{};
  timeval* next = ares_timeout(channel_, nullptr, &most);
  if (next == nullptr) {
    timer_.cancel();
    return;
  }
  timer_.expires_after(std::chrono::seconds(next->tv_sec) +
                       std::chrono::microseconds(next->tv_usec));
  timer_.async_wait([this, alive = std::weak_ptr<int>(alive_)](
                        const boost::system::error_code& error) {
    if (error || alive.expired()) return;
    // A server that does not answer may have been replaced.
    if (Refresh()) return replaced_();
    ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    SetTimer();
  });
}

}  // namespace hotline::upstream
