// What an Upstream runs for the pool and for its address books: dials, tests of
// addresses, probes. And what becomes of connections.
#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/socket_address.h"
#include "upstream/upstream_impl.h"

namespace hotline::upstream {
namespace {

// Targets with counters of their own, about; the rest share one line.
constexpr size_t kMaxCountedTargets = 4096;
constexpr char kOtherTargets[] = "other";
// Of unsolicited bytes per target: so many, and then one in so many.
constexpr uint64_t kMostLogged = 10;
constexpr int64_t kMostProbeBytes = 1 << 20;

// What makes a target's counters worth their place; those of the rest have it
// for good.
uint64_t SumOf(const std::pair<const std::string, Upstream::Counters>& row) {
  if (row.first == kOtherTargets) return UINT64_MAX;
  return row.second.unsolicited_bytes + row.second.full_handshakes +
         row.second.resumed_handshakes;
}

// Bits that need not be secret, from a number that is never given twice.
uint64_t Mix(uint64_t number) {
  number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9u;
  number = (number ^ (number >> 27)) * 0x94d049bb133111ebu;
  return number ^ (number >> 31);
}

// Where it leads: its target, or its target's proxy.
std::optional<IpAddress> RemoteOf(const Connection& connection) {
  const auto remote = ParseSocketAddress(connection.facts()->remote_address);
  return remote ? IpAddress::Parse(remote->host) : std::nullopt;
}

}  // namespace

// Dials.

void UpstreamImpl::Dial(pool::ConnId id,
                        std::shared_ptr<const pool::HostPoolKey> key,
                        pool::LoopIndex on) {
  if (stopping_) return FailDial(id, "shutting down");
  const size_t loop = on < loops_.size() ? on : NextLoop();
  loops_[loop]->Post(
      [this, loop, id, key = std::move(key)] { StartDial(loop, id, key); });
}

uint64_t UpstreamImpl::Random() {
  return Mix(random_.fetch_add(0x9e3779b97f4a7c15u));
}

upstream::Dial::Spec UpstreamImpl::SpecFor(
    std::shared_ptr<const pool::HostPoolKey> key, const TargetPolicy& policy,
    const Options& options) {
  upstream::Dial::Spec spec;
  spec.target = key->target;
  spec.sni = key->options.sni;
  spec.alpn = key->options.alpn;
  spec.tls_profile = ProfileFor(*key, policy, options);
  spec.tls_scope = absl::StrCat(key->target, "|", key->options.pool_group);
  spec.proxy = policy.proxy;
  spec.remote = IpAddress::Parse(key->options.remote_ip);
  spec.source = IpAddress::Parse(key->options.source_ip);
  spec.random = Random();
  spec.validate = policy.validate;
  if (!key->options.validate.empty()) {
    auto check = pool::CheckOfText(key->options.validate);
    spec.validate = {.path = std::move(check.path),
                     .method = std::move(check.method),
                     .min_status = check.min_status,
                     .max_status = check.max_status};
    spec.callers_check = true;
  }
  spec.key = std::move(key);
  return spec;
}

void UpstreamImpl::StartDial(size_t loop, pool::ConnId id,
                             std::shared_ptr<const pool::HostPoolKey> key) {
  if (stopping_) return FailDial(id, "shutting down");
  const auto settings = this->settings();
  const TargetPolicy policy = settings->PolicyOf(key->target);
  const std::string target = key->target;
  auto dial =
      upstream::Dial::Make(loops_[loop].get(), keeper_.get(), settings->dial,
                           SpecFor(std::move(key), policy, settings->options),
                           [this, loop, id, target](DialResult result) {
                             FinishDial(loop, id, target, std::move(result));
                           });
  dials_[loop].running.emplace(id, dial);
  dial->Begin();
}

std::string UpstreamImpl::ProfileFor(const pool::HostPoolKey& key,
                                     const TargetPolicy& policy,
                                     const Options& options) {
  if (!key.options.tls_profile.empty()) return key.options.tls_profile;
  const auto& profiles = policy.tls_profiles;
  if (profiles.empty()) return options.tls_profile;
  if (profiles.size() == 1) return profiles[0];
  MutexLock lock(&mu_);
  return profiles[profile_turns_[key.target]++ % profiles.size()];
}

Upstream::Counters& UpstreamImpl::CountersOf(const std::string& target) {
  const bool room =
      counters_.size() < kMaxCountedTargets || counters_.contains(target);
  if (!room) {
    // The one with the least makes room, and counts with the others from now
    // on.
    const auto least = std::min_element(
        counters_.begin(), counters_.end(),
        [](const auto& a, const auto& b) { return SumOf(a) < SumOf(b); });
    const Upstream::Counters counts = least->second;
    counters_.erase(least);
    Upstream::Counters& others = counters_[kOtherTargets];
    others.unsolicited_bytes += counts.unsolicited_bytes;
    others.full_handshakes += counts.full_handshakes;
    others.resumed_handshakes += counts.resumed_handshakes;
  }
  return counters_[target];
}

void UpstreamImpl::CountHandshakes(const std::string& target,
                                   const DialResult& result) {
  if (result.full_handshakes + result.resumed_handshakes == 0) return;
  MutexLock lock(&mu_);
  Counters& counters = CountersOf(target);
  counters.full_handshakes += result.full_handshakes;
  counters.resumed_handshakes += result.resumed_handshakes;
  if (result.connection == nullptr) return;
  counters.certificate_not_after =
      result.connection->facts()->certificate_not_after;
}

void UpstreamImpl::FinishDial(size_t loop, pool::ConnId id,
                              const std::string& target, DialResult result) {
  dials_[loop].running.erase(id);
  CountHandshakes(target, result);
  if (stopped_) return;
  const auto& connection = result.connection;
  if (connection != nullptr) {
    const bool validated = connection->answered();
    if (const auto streams = connection->Announce(this, id)) {
      table_.Add(connection);
      if (validated) {
        keeper_->Answered(connection->target(), connection->ticket());
      }
      events_->Dialed(id, {*streams, result.timings, loops_[loop]->index()},
                      MonotonicNow());
      ShutOutIfBlocked(connection.get());
      return;
    }
    connection->CloseNow(pool::CloseReason::kPeerClosed);
    keeper_->Broke(connection->target(), connection->ticket(),
                   "it closed the connection at once", MonotonicNow());
    keeper_->Closed(connection->target(), connection->ticket());
    // It answered the validation and then closed, or said that it will.
    result.error = {pool::FailureClass::kNetwork, "CONNECT_FAILED",
                    absl::StrCat(connection->target(), " (",
                                 connection->facts()->remote_address,
                                 ") closed the connection at once")};
    if (std::string refusal = connection->tls_refusal(); !refusal.empty()) {
      result.error = {pool::FailureClass::kTls, "TLS_FAILED",
                      std::move(refusal)};
    }
  }
  events_->DialFailed(id, result.error, MonotonicNow());
}

void UpstreamImpl::FailDial(pool::ConnId id, const char* message) {
  if (stopped_) return;
  events_->DialFailed(id,
                      {pool::FailureClass::kNetwork, "CONNECT_FAILED", message},
                      MonotonicNow());
}

void UpstreamImpl::NoteUnsolicited(Connection& connection) {
  const std::string evidence = absl::BytesToHexString(connection.Evidence());
  uint64_t count = 0;
  {
    MutexLock lock(&mu_);
    Counters& mine = CountersOf(connection.target());
    count = ++mine.unsolicited_bytes;
    mine.evidence = evidence;
  }
  // One that does it all the time need not fill the log.
  if (count > kMostLogged && count % kMostLogged != 0) return;
  HOTLINE_LOG(kWarning, "closed for bytes that nobody had asked for",
              {{"target", connection.target()},
               {"connection", connection.id()},
               {"address", connection.facts()->remote_address},
               {"bytes", evidence},
               {"times", count}});
}

void UpstreamImpl::OnConnectionClosed(Connection& connection,
                                      pool::CloseReason reason) {
  if (reason == pool::CloseReason::kUnsolicited) NoteUnsolicited(connection);
  const Instant now = MonotonicNow();
  if (connection.broke_early()) {
    const std::string refusal = connection.tls_refusal();
    keeper_->Broke(connection.target(), connection.ticket(),
                   refusal.empty()
                       ? "connections end before they have answered anything"
                       : refusal,
                   now);
  }
  keeper_->Closed(connection.target(), connection.ticket());
  const auto early = connection.TakeEarlyEnd();
  events_->Closed(connection.id(), reason, early ? &*early : nullptr, now);
  // After that: until then a call on it has to wait for the pool's knowing.
  table_.Remove(connection.id());
}

// Addresses.

void UpstreamImpl::TestAddress(std::shared_ptr<const pool::HostPoolKey> key,
                               const IpAddress& address,
                               AddressKeeper::TestDone done) {
  const size_t loop = NextLoop();
  loops_[loop]->Post([this, loop, key = std::move(key), address,
                      done = std::move(done)]() mutable {
    StartTest(loop, std::move(key), address, std::move(done));
  });
}

// A dial like any other, with a request on it where the target's policy knows
// one. The pool hears nothing of it: it is closed at once.
void UpstreamImpl::StartTest(size_t loop,
                             std::shared_ptr<const pool::HostPoolKey> key,
                             const IpAddress& address,
                             AddressKeeper::TestDone done) {
  if (stopping_) return done(false, "shutting down", Duration(0));
  const auto settings = this->settings();
  const TargetPolicy policy = settings->PolicyOf(key->target);
  const std::string target = key->target;
  auto request = SpecFor(std::move(key), policy, settings->options);
  request.test = address;
  // What one caller wants to see says nothing about the address.
  request.validate = policy.validate;
  request.callers_check = false;
  if (request.validate.path.empty() && !policy.probe_tcp_only) {
    request.validate = policy.probe;
  }
  const uint64_t test = ++last_test_;
  auto dial = upstream::Dial::Make(
      loops_[loop].get(), keeper_.get(), settings->dial, std::move(request),
      [this, loop, test, target,
       done = std::move(done)](DialResult result) mutable {
        dials_[loop].tests.erase(test);
        CountHandshakes(target, result);
        if (result.connection != nullptr) {
          result.connection->CloseNow(pool::CloseReason::kIdle);
        }
        // A proxy that does not want to is in good health.
        const bool passed =
            result.connection != nullptr ||
            std::string_view(result.error.reason) == "PROXY_REFUSED";
        done(passed, std::move(result.error.message), result.timings.connect);
      });
  dials_[loop].tests.emplace(test, dial);
  dial->Begin();
}

void UpstreamImpl::DrainAddress(const std::string& target,
                                const IpAddress& address) {
  if (stopped_) return;
  for (const auto& connection : table_.All()) {
    const AddressTicket& ticket = connection->ticket();
    if (ticket.epoch == 0 || !(ticket.address == address)) continue;
    if (connection->target() == target) EndLending(*connection);
  }
}

std::optional<std::vector<pool::ConnId>> UpstreamImpl::Block(
    const AddressBlock& block, Instant now) {
  if (!keeper_->Block(block, now)) return std::nullopt;
  // For what shows the states of addresses: dials check by themselves.
  RunAt(block.until,
        [this, target = block.target] { keeper_->Recheck(target); });
  std::vector<pool::ConnId> open;
  for (const auto& connection : table_.All()) {
    const auto remote = RemoteOf(*connection);
    if (remote && block.Covers(connection->target(), *remote)) {
      open.push_back(connection->id());
    }
  }
  return open;
}

// A block that came while it was dialled, and may have missed it.
void UpstreamImpl::ShutOutIfBlocked(Connection* connection) {
  const auto remote = RemoteOf(*connection);
  const std::string_view why =
      remote
          ? keeper_->blocks().Why(connection->target(), *remote, MonotonicNow())
          : "";
  if (why.empty()) return;
  if (why == AddressBlocks::ReasonFor(AddressBlock::Kind::kBlocked)) {
    connection->CloseNow(pool::CloseReason::kOperator);
  } else {
    OnGoAway(*connection);
  }
}

// Probes.

class UpstreamImpl::ProbeCall final : public CallHandler {
 public:
  ProbeCall(UpstreamImpl* impl, pool::ConnId id, Check check)
      : impl_(impl), id_(id), check_(std::move(check)) {}

  void OnDone(CallResult result) override {
    const bool passed = Passes(check_, result);
    impl_->events_->Probed(id_, passed, MonotonicNow());
    delete this;
  }

  const Check& check() const { return check_; }

 private:
  UpstreamImpl* const impl_;
  const pool::ConnId id_;
  const Check check_;
};

void UpstreamImpl::Probe(pool::ConnId id,
                         std::shared_ptr<const pool::HostPoolKey> key) {
  if (stopped_) return;
  const auto connection = table_.Find(id);
  if (connection == nullptr) {
    return events_->Probed(id, false, MonotonicNow());
  }
  const auto settings = this->settings();
  TargetPolicy policy = settings->PolicyOf(key->target);
  const auto parts = TargetParts::Parse(key->target);
  if (policy.probe_tcp_only || policy.probe.path.empty() || !parts ||
      parts->raw) {
    return events_->Probed(id, connection->IsSilent(), MonotonicNow());
  }
  const Instant now = MonotonicNow();
  if (connection->HasPing() && !policy.probe_is_asked_for) {
    return connection->Ping(
        SaturatingAdd(now, settings->options.probe_timeout),
        [this, id](bool alive) { events_->Probed(id, alive, MonotonicNow()); });
  }
  auto* const call = new ProbeCall(this, id, std::move(policy.probe));
  const Check check = call->check();
  const HeaderView user_agent{"user-agent", "hotline"};
  connection->StartCall(
      {.method = check.method,
       .authority = parts->authority,
       .path = check.path,
       .headers = {&user_agent, 1},
       .max_response_bytes = kMostProbeBytes,
       .deadline = SaturatingAdd(now, settings->options.probe_timeout)},
      call, now);
}

}  // namespace hotline::upstream
