#include "upstream/address/resolver.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/http_chars.h"
#include "upstream/address/resolver_channel.h"

namespace hotline::upstream {
namespace {

using Family = ResolverChannel::Family;
using Answer = ResolverChannel::Answer;

// Lower case, without the trailing dot.
std::string WithoutDot(std::string_view host) {
  std::string name = LowerCase(host);
  if (name.size() > 1 && name.back() == '.') name.pop_back();
  return name;
}

// `name` itself, or a name below it.
bool IsWithin(std::string_view host, std::string_view name) {
  return host == name ||
         (host.ends_with(name) && host[host.size() - name.size() - 1] == '.');
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

}  // namespace

// One resolution: tries the candidate names one after the other, each for both
// families concurrently.
class Resolver::Question : public std::enable_shared_from_this<Question> {
 public:
  Question(Resolver* resolver, std::string host,
           std::vector<Callback> callbacks)
      : resolver_(resolver),
        host_(std::move(host)),
        callbacks_(std::move(callbacks)) {}

  const std::string& host() const { return host_; }
  bool reported() const { return reported_; }
  std::vector<Callback>& callbacks() { return callbacks_; }

  void Begin() {
    ResolverChannel& channel = *resolver_->channel_;
    if (channel.hosts_come_first() && ReportHosts()) return;
    names_ = channel.Candidates(host_);
    if (names_.empty()) return GiveUp("DNS is not asked on this system");
    AskNext();
  }

 private:
  friend class Resolver;

  // The state of one family.
  struct Half {
    bool asking = true;
    Answer answer;
    Instant until{};  // Of its addresses.

    bool Is(Answer::Kind kind) const { return !asking && answer.kind == kind; }
    bool Has() const { return Is(Answer::Kind::kAddresses); }
  };
  using Halves = std::array<Half, 2>;

  bool ReportHosts() {
    const Addresses found = resolver_->channel_->Hosts(WithoutDot(host_));
    if (found.empty()) return false;
    reported_ = true;
    resolver_->Report(this, Resolution{found, MonotonicNow() + kMinTtl}, true);
    return true;
  }

  void AskNext() {
    const int turn = ++turn_;
    waits_ = false;
    halves_ = Halves();
    for (const Family family : {Family::kV4, Family::kV6}) {
      // The first query may have ended the turn already.
      if (turn_ != turn) return;
      resolver_->channel_->Ask(
          names_[next_], family,
          [weak = weak_from_this(), turn, family](Answer answer) {
            const auto self = weak.lock();
            if (self == nullptr || self->turn_ != turn) return;
            self->Take(family, std::move(answer));
          });
    }
  }

  void Take(Family family, Answer answer) {
    Half& half = halves_[static_cast<size_t>(family)];
    half.asking = false;
    half.until = MonotonicNow() + answer.ttl;
    half.answer = std::move(answer);
    const bool both = !halves_[0].asking && !halves_[1].asking;
    if (reported_) {
      if (Has() && !half.Is(Answer::Kind::kFailed)) {
        return resolver_->Report(this, Joined(), true);
      }
      return resolver_->Forget(this);
    }
    if (both) return Conclude();
    // "No such name" should hold for both families; some servers differ.
    const bool enough =
        half.Has() || (family == Family::kV4 && half.Is(Answer::Kind::kNoName));
    if (!enough || std::exchange(waits_, true)) return;
    resolver_->loop_->RunAt(MonotonicNow() + kResolutionDelay,
                            [weak = weak_from_this(), turn = turn_] {
                              const auto self = weak.lock();
                              if (self == nullptr || self->turn_ != turn)
                                return;
                              if (!self->reported_) self->Conclude();
                            });
  }

  bool Has() const { return halves_[0].Has() || halves_[1].Has(); }

  Resolution Joined() const {
    Resolution joined;
    for (const Half& half : halves_) {
      if (!half.Has()) continue;
      joined.addresses.insert(joined.addresses.end(),
                              half.answer.addresses.begin(),
                              half.answer.addresses.end());
      joined.until = std::min(joined.until, half.until);
    }
    const auto known = [](const Half& half) {
      return !half.asking && !half.Is(Answer::Kind::kFailed);
    };
    joined.known = {known(halves_[0]), known(halves_[1])};
    return joined;
  }

  // Both answers have arrived, or one that suffices.
  void Conclude() {
    if (Has()) {
      Count(&DnsCounters::ok);
      reported_ = true;
      const bool last = !halves_[0].asking && !halves_[1].asking;
      return resolver_->Report(this, Joined(), last);
    }
    // The next candidate may be another host: a server's failure does not
    // justify trying it.
    for (const Half& half : halves_) {
      if (!half.Is(Answer::Kind::kFailed)) continue;
      Count(&DnsCounters::failed);
      return GiveUp(half.answer.why);
    }
    if (++next_ < names_.size()) return AskNext();
    Count(&DnsCounters::no_address);
    const Half& v4 = halves_[0];
    GiveUp(v4.answer.why);
  }

  void GiveUp(const std::string& why) {
    if (!resolver_->channel_->hosts_come_first() && ReportHosts()) return;
    reported_ = true;
    resolver_->Report(this,
                      absl::UnavailableError(
                          absl::StrCat("no address for ", host_, ": ", why)),
                      true);
  }

  void Count(uint64_t DnsCounters::*counter) {
    resolver_->Count(counter, MonotonicNow() - begun_);
  }

  Resolver* const resolver_;
  const std::string host_;
  const Instant begun_ = MonotonicNow();
  std::vector<Callback> callbacks_;
  bool reported_ = false;
  std::vector<std::string> names_;
  size_t next_ = 0;
  int turn_ = 0;  // Answers of earlier turns are ignored.
  Halves halves_;
  bool waits_ = false;  // For the other family, for kResolutionDelay.
};

Resolver::Resolver(net::Loop* loop) : loop_(loop) {}
Resolver::~Resolver() { Shutdown(); }

absl::StatusOr<std::unique_ptr<Resolver>> Resolver::Create(
    net::Loop* loop, const std::vector<std::string>& servers,
    ResolvConf system) {
  for (const std::string& server : servers) {
    if (!IsServer(server)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "DNS server \"", server, "\" is no address, with or without a port"));
    }
  }
  std::unique_ptr<Resolver> resolver(new Resolver(loop));
  Resolver* const raw = resolver.get();
  resolver->channel_ = std::make_unique<ResolverChannel>(
      &loop->io(), servers, std::move(system), [raw] { raw->Restart(); });
  if (absl::Status s = resolver->channel_->Init(); !s.ok()) return s;
  return resolver;
}

std::optional<Resolver::Result> Resolver::Lookup(const std::string& host,
                                                 Instant now) const {
  if (const auto literal = IpAddress::Parse(host)) {
    return Resolution{{*literal}, kNever};
  }
  if (IsWithin(WithoutDot(host), "localhost")) {
    IpAddress v6_loopback{.v6 = true};
    v6_loopback.bytes[15] = 1;
    return Resolution{{IpAddress::V4(127, 0, 0, 1), v6_loopback}, kNever};
  }
  if (IsWithin(WithoutDot(host), "onion")) {
    // RFC 7686: must not be resolved by DNS.
    return absl::UnavailableError(absl::StrCat("no address for ", host));
  }
  MutexLock lock(&mu_);
  const auto it = known_.find(LowerCase(host));
  if (it == known_.end() || it->second.until <= now) return std::nullopt;
  return it->second.result;
}

void Resolver::Resolve(const std::string& host, Callback callback) {
  loop_->Post(
      [this, host = LowerCase(host), callback = std::move(callback)]() mutable {
        Start(host, std::move(callback));
      });
}

void Resolver::Start(const std::string& host, Callback callback) {
  if (channel_ == nullptr) {
    callback(absl::CancelledError("shutting down"));
    return;
  }
  // Another resolution may have finished in the meantime.
  if (auto known = Lookup(host, MonotonicNow())) {
    callback(*std::move(known));
    return;
  }
  if (channel_->Refresh()) Restart();
  const auto it = running_.find(host);
  if (it != running_.end() && !it->second->reported()) {
    it->second->callbacks().push_back(std::move(callback));
    return;
  }
  if (it == running_.end() && running_.size() >= kMaxQueries) {
    callback(absl::UnavailableError(
        absl::StrCat(kMaxQueries, " DNS queries are under way")));
    return;
  }
  std::vector<Callback> callbacks;
  callbacks.push_back(std::move(callback));
  Begin(host, std::move(callbacks));
}

void Resolver::Begin(const std::string& host, std::vector<Callback> callbacks) {
  const auto question =
      std::make_shared<Question>(this, host, std::move(callbacks));
  running_[host] = question;
  question->Begin();
}

void Resolver::Restart() {
  auto before = std::exchange(running_, {});
  for (auto& [host, question] : before) {
    // A partial answer was delivered: it is refreshed when it expires.
    if (!question->reported()) Begin(host, std::move(question->callbacks()));
  }
}

void Resolver::Forget(Question* question) {
  const auto it = running_.find(question->host());
  if (it != running_.end() && it->second.get() == question) running_.erase(it);
}

void Resolver::Count(uint64_t DnsCounters::*counter, Duration took) {
  MutexLock lock(&mu_);
  ++(counters_.*counter);
  counters_.seconds.Record(took);
}

void Resolver::Report(Question* question, const Result& result, bool last) {
  const std::shared_ptr<Question> keep = question->shared_from_this();
  const Instant now = MonotonicNow();
  {
    MutexLock lock(&mu_);
    Keep(question->host(), result,
         result.ok() ? result->until : now + kFailureTtl, now);
  }
  // A late second family is optional and must not block new queries.
  if (last || running_.size() > kMaxQueries / 2) Forget(question);
  for (Callback& callback : question->callbacks()) callback(result);
}

void Resolver::Keep(const std::string& host, const Result& result,
                    Instant until, Instant now) {
  if (known_.size() >= kMaxNames) {
    absl::erase_if(
        known_, [now](const auto& entry) { return entry.second.until <= now; });
  }
  // Still full: evict any entry; it can be resolved again.
  if (known_.size() >= kMaxNames) known_.erase(known_.begin());
  known_.insert_or_assign(host, Known{result, until});
}

void Resolver::Shutdown() {
  channel_.reset();
  auto before = std::exchange(running_, {});
  for (auto& [host, question] : before) {
    if (question->reported()) continue;
    for (Callback& callback : question->callbacks()) {
      callback(absl::CancelledError("shutting down"));
    }
  }
}

}  // namespace hotline::upstream
