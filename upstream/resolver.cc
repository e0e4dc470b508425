#include "upstream/resolver.h"

#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace hotline::upstream {
namespace {

namespace asio = boost::asio;

constexpr int kFirstTimeoutMs = 2000;  // Doubles with each try.
constexpr int kTries = 3;

// c-ares needs this once per process, before any channel.
int InitLibrary() {
  static const int result = ares_library_init(ARES_LIB_INIT_ALL);
  return result;
}

// Lower case, without the root's dot.
std::string Canonical(std::string_view host) {
  std::string name =
      absl::AsciiStrToLower(absl::string_view(host.data(), host.size()));
  if (name.size() > 1 && name.back() == '.') name.pop_back();
  return name;
}

bool IsServer(std::string_view text) {
  if (IpAddress::Parse(text)) return true;
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view port = text.substr(colon + 1);
  uint16_t number = 0;
  const auto [end, error] =
      std::from_chars(port.data(), port.data() + port.size(), number);
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return false;
  }
  return error == std::errc() && end == port.data() + port.size() &&
         number != 0 && IpAddress::Parse(host).has_value();
}

struct Answer {
  Addresses addresses;
  Duration ttl = Resolver::kMaxTtl;
};

Answer Convert(const ares_addrinfo* info) {
  Answer answer;
  for (auto* node = info->nodes; node != nullptr; node = node->ai_next) {
    IpAddress address;
    if (node->ai_family == AF_INET) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(node->ai_addr);
      memcpy(address.bytes.data(), &in->sin_addr, 4);
    } else if (node->ai_family == AF_INET6) {
      const auto* in = reinterpret_cast<const sockaddr_in6*>(node->ai_addr);
      address.v6 = true;
      memcpy(address.bytes.data(), &in->sin6_addr, 16);
    } else {
      continue;
    }
    const Duration ttl = std::chrono::seconds(std::max(node->ai_ttl, 0));
    answer.ttl = std::min(answer.ttl, ttl);
    answer.addresses.push_back(address);
  }
  answer.ttl = std::max(answer.ttl, Resolver::kMinTtl);
  return answer;
}

}  // namespace

// c-ares, its sockets watched by Asio. On the loop only.
class Resolver::Channel {
 public:
  explicit Channel(Resolver* resolver)
      : resolver_(resolver),
        io_(resolver->loop_->io()),
        timer_(resolver->loop_->io()) {}

  ~Channel() {
    timer_.cancel();
    if (channel_ != nullptr) ares_destroy(channel_);
  }

  absl::Status Init(const std::vector<std::string>& servers) {
    if (InitLibrary() != ARES_SUCCESS) {
      return absl::InternalError("c-ares does not start");
    }
    ares_options options{};
    options.timeout = kFirstTimeoutMs;
    options.tries = kTries;
    options.sock_state_cb = &Channel::OnSocketState;
    options.sock_state_cb_data = this;
    const int result = ares_init_options(
        &channel_, &options,
        ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (result != ARES_SUCCESS) {
      channel_ = nullptr;
      return absl::InternalError(
          absl::StrCat("c-ares does not start: ", ares_strerror(result)));
    }
    if (servers.empty()) return absl::OkStatus();
    const std::string all = absl::StrJoin(servers, ",");
    if (ares_set_servers_ports_csv(channel_, all.c_str()) != ARES_SUCCESS) {
      return absl::InvalidArgumentError(
          absl::StrCat("DNS servers \"", all, "\" do not parse"));
    }
    return absl::OkStatus();
  }

  void Query(const std::string& host) {
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    // The address book has an order of its own; sorting opens a socket for
    // each.
    hints.ai_flags = ARES_AI_NOSORT;
    auto* query = new Pending{resolver_, host};
    ares_getaddrinfo(channel_, host.c_str(), nullptr, &hints,
                     &Channel::OnAnswer, query);
    SetTimer();
  }

 private:
  struct Pending {
    Resolver* resolver;
    std::string host;
  };

  struct Watched {
    explicit Watched(asio::io_context& io) : descriptor(io) {}
    asio::posix::stream_descriptor descriptor;
    bool gone = false;  // Closed; the number may be another socket's by now.
    bool want_read = false;
    bool want_write = false;
    bool reading = false;
    bool writing = false;
  };

  static void OnAnswer(void* pending, int status, int, ares_addrinfo* info) {
    std::unique_ptr<Pending> query(static_cast<Pending*>(pending));
    absl::StatusOr<Addresses> result = Addresses();
    Duration ttl{0};
    if (info != nullptr) {
      Answer answer = Convert(info);
      ares_freeaddrinfo(info);
      result = std::move(answer.addresses);
      ttl = answer.ttl;
    }
    if (status == ARES_EDESTRUCTION) {
      result = absl::CancelledError("shutting down");
    } else if (status != ARES_SUCCESS) {
      result = absl::UnavailableError(absl::StrCat(
          "no address for ", query->host, ": ", ares_strerror(status)));
    } else if (result->empty()) {
      result =
          absl::UnavailableError(absl::StrCat("no address for ", query->host));
    }
    query->resolver->Finish(query->host, std::move(result), ttl);
  }

  // c-ares tells what it wants to know of a socket; nothing: it is about to
  // close it.
  static void OnSocketState(void* self, ares_socket_t fd, int read, int write) {
    static_cast<Channel*>(self)->Watch(fd, read != 0, write != 0);
  }

  void Watch(int fd, bool read, bool write) {
    auto it = watched_.find(fd);
    if (!read && !write) {
      if (it == watched_.end()) return;
      // The socket is c-ares's own, to close.
      it->second->gone = true;
      it->second->descriptor.release();
      watched_.erase(it);
      return;
    }
    if (it == watched_.end()) {
      auto watched = std::make_shared<Watched>(io_);
      boost::system::error_code error;
      watched->descriptor.assign(fd, error);
      if (error) return;  // Nothing is heard from it: the query times out.
      it = watched_.emplace(fd, std::move(watched)).first;
    }
    it->second->want_read = read;
    it->second->want_write = write;
    Await(fd, it->second);
  }

  void Await(int fd, const std::shared_ptr<Watched>& watched) {
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

  void Process(const std::shared_ptr<Watched>& watched, int readable,
               int writable) {
    ares_process_fd(channel_, readable, writable);
    if (!watched->gone) {
      Await(readable == ARES_SOCKET_BAD ? writable : readable, watched);
    }
    SetTimer();
  }

  void SetTimer() {
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
      ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      SetTimer();
    });
  }

  Resolver* const resolver_;
  asio::io_context& io_;
  asio::steady_timer timer_;
  ares_channel channel_ = nullptr;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  absl::flat_hash_map<int, std::shared_ptr<Watched>> watched_;
};

Resolver::Resolver(Loop* loop) : loop_(loop) {}
Resolver::~Resolver() { Shutdown(); }

absl::StatusOr<std::unique_ptr<Resolver>> Resolver::Create(
    Loop* loop, const std::vector<std::string>& servers) {
  for (const std::string& server : servers) {
    if (!IsServer(server)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "DNS server \"", server, "\" is no address, with or without a port"));
    }
  }
  std::unique_ptr<Resolver> resolver(new Resolver(loop));
  resolver->channel_ = std::make_unique<Channel>(resolver.get());
  if (absl::Status s = resolver->channel_->Init(servers); !s.ok()) return s;
  return resolver;
}

std::optional<Resolver::Result> Resolver::Lookup(const std::string& host,
                                                 Instant now) const {
  if (const auto literal = IpAddress::Parse(host)) {
    return Resolution{{*literal}, kNever};
  }
  const std::string name = Canonical(host);
  if (name == "localhost" || name.ends_with(".localhost")) {
    IpAddress v6_loopback{.v6 = true};
    v6_loopback.bytes[15] = 1;
    return Resolution{{IpAddress::V4(127, 0, 0, 1), v6_loopback}, kNever};
  }
  MutexLock lock(&mu_);
  const auto it = known_.find(name);
  if (it == known_.end() || it->second.until <= now) return std::nullopt;
  return it->second.result;
}

void Resolver::Resolve(const std::string& host, Callback callback) {
  loop_->Post(
      [this, host = Canonical(host), callback = std::move(callback)]() mutable {
        Start(host, std::move(callback));
      });
}

void Resolver::Start(const std::string& host, Callback callback) {
  if (channel_ == nullptr) {
    callback(absl::CancelledError("shutting down"));
    return;
  }
  // Another one's answer may have come while this was on its way.
  if (auto known = Lookup(host, MonotonicNow())) {
    callback(*std::move(known));
    return;
  }
  const auto it = running_.find(host);
  if (it != running_.end()) {
    it->second.push_back(std::move(callback));
    return;
  }
  if (running_.size() >= kMaxQueries) {
    callback(absl::UnavailableError(
        absl::StrCat(kMaxQueries, " DNS queries are under way")));
    return;
  }
  running_[host].push_back(std::move(callback));
  channel_->Query(host);
}

void Resolver::Finish(const std::string& host,
                      absl::StatusOr<Addresses> addresses, Duration ttl) {
  const Instant now = MonotonicNow();
  const Result result =
      addresses.ok() ? Result(Resolution{*std::move(addresses), now + ttl})
                     : Result(addresses.status());
  if (!absl::IsCancelled(result.status())) {
    MutexLock lock(&mu_);
    Keep(host, result, result.ok() ? result->until : now + kFailureTtl, now);
  }
  auto node = running_.extract(host);
  if (node.empty()) return;
  for (Callback& callback : node.mapped()) callback(result);
}

void Resolver::Keep(const std::string& host, const Result& result,
                    Instant until, Instant now) {
  if (known_.size() >= kMaxNames) {
    absl::erase_if(
        known_, [now](const auto& entry) { return entry.second.until <= now; });
  }
  // Still full: any will do, it is asked for again.
  if (known_.size() >= kMaxNames) known_.erase(known_.begin());
  known_.insert_or_assign(host, Known{result, until});
}

void Resolver::Shutdown() { channel_.reset(); }

}  // namespace hotline::upstream
