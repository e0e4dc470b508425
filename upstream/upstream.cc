#include "upstream/upstream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "upstream/address/egress.h"
#include "upstream/dial/target_parts.h"
#include "upstream/dial/tls_profiles.h"
#include "upstream/upstream_impl.h"

namespace hotline::upstream {
namespace {

constexpr int kMaxLoops = 256;

CallResult Gone() {
  return NeverSent(CallError::kConnectionGone, "the connection is gone");
}

absl::StatusOr<std::vector<IpAddress>> ParseSources(const Options& options) {
  std::vector<IpAddress> sources;
  for (const std::string& text : options.source_addresses) {
    const auto address = IpAddress::Parse(text);
    if (!address) {
      return absl::InvalidArgumentError(
          absl::StrCat("source address \"", text, "\" is no address"));
    }
    sources.push_back(*address);
  }
  return sources;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Settings>> MakeSettings(
    Options options, std::shared_ptr<net::TlsSessions> sessions,
    const Settings* before) {
  auto egress = EgressPolicy::Create(options.egress);
  if (!egress.ok()) return egress.status();
  auto sources = ParseSources(options);
  if (!sources.ok()) return sources.status();
  auto tls = TlsProfiles::Create(
      {.profiles = options.tls_profiles,
       .ca_file = options.ca_file,
       .session_lifetime = options.tls_session_lifetime,
       .sessions = std::move(sessions)},
      before == nullptr ? nullptr : before->dial->tls.get());
  if (!tls.ok()) return tls.status();
  if ((*tls)->Find(options.tls_profile) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no TLS profile \"", options.tls_profile, "\""));
  }
  auto dial = std::make_shared<DialSettings>(
      DialSettings{.connect_timeout = options.connect_timeout,
                   .tcp_timeout = options.tcp_timeout,
                   .tls_timeout = options.tls_timeout,
                   .stagger = options.attempt_stagger,
                   .max_header_bytes = options.max_header_bytes,
                   .ping_after = options.ping_after,
                   .ping_timeout = options.ping_timeout,
                   .sources = *std::move(sources),
                   .egress = *std::move(egress),
                   .tls = *std::move(tls)});
  return std::make_shared<const Settings>(
      Settings{std::move(options), std::move(dial)});
}

absl::Status Upstream::CheckOptions(Options options) {
  return MakeSettings(std::move(options), net::TlsSessions::Create(0),
                      /*before=*/nullptr)
      .status();
}

std::string Upstream::EgressDenial(const EgressRules& rules,
                                   const std::string& target,
                                   const IpAddress& address) {
  const auto policy = EgressPolicy::Create(rules);
  const auto parts = TargetParts::Parse(target);
  if (!policy.ok() || !parts) return "";
  const auto decision = policy->Check(parts->lookup, address);
  return decision.allowed ? "" : std::string(decision.rule);
}

absl::StatusOr<std::unique_ptr<Upstream>> Upstream::Create(Options options) {
  auto sessions = net::TlsSessions::Create(options.max_tls_sessions);
  auto settings = MakeSettings(std::move(options), sessions,
                               /*before=*/nullptr);
  if (!settings.ok()) return settings.status();
  auto upstream =
      std::make_unique<UpstreamImpl>(*std::move(settings), std::move(sessions));
  if (absl::Status s = upstream->Init(); !s.ok()) return s;
  return upstream;
}

absl::Status UpstreamImpl::Init() {
  const auto settings = this->settings();
  const Options& options = settings->options;
  const int loops = std::clamp(options.loops, 1, kMaxLoops);
  for (int i = 0; i < loops; ++i)
    loops_.push_back(std::make_unique<net::Loop>(static_cast<uint16_t>(i)));
  dials_.resize(loops_.size());
  auto resolver = Resolver::Create(loops_[0].get(), options.dns_servers);
  if (!resolver.ok()) return resolver.status();
  resolver_ = *std::move(resolver);
  keeper_ = std::make_unique<AddressKeeper>(
      loops_[0].get(), resolver_.get(), options.addresses,
      AddressKeeper::Callbacks{
          .test =
              [this](std::shared_ptr<const pool::HostPoolKey> key,
                     const IpAddress& address, AddressKeeper::TestDone done) {
                TestAddress(std::move(key), address, std::move(done));
              },
          .egress =
              [this](const std::string& host) -> AddressBook::EgressCheck {
            return [host, dial = this->settings()->dial](
                       const IpAddress& address) -> std::string {
              const auto decision = dial->egress.Check(host, address);
              return decision.allowed ? "" : std::string(decision.rule);
            };
          },
          .drain =
              [this](const std::string& target, const IpAddress& address) {
                DrainAddress(target, address);
              },
          .changed =
              [this](const std::string& target, const AddressEvent& event) {
                if (observer_.on_address) observer_.on_address(target, event);
              }});
  return absl::OkStatus();
}

void UpstreamImpl::Start(pool::TransportEvents* events,
                         std::function<void(int, Instant)> tick) {
  events_ = events;
  tick_ = std::move(tick);
  for (const auto& loop : loops_) loop->Start();
}

void UpstreamImpl::Stop() {
  // Init may have failed before anything could run.
  if (stopping_.exchange(true) || keeper_ == nullptr) return;
  keeper_->Shutdown();
  for (size_t i = 0; i < loops_.size(); ++i) {
    loops_[i]->Post([this, i] { StopLoop(i); });
  }
  for (const auto& loop : loops_) loop->Join();
  stopped_ = true;
}

void UpstreamImpl::StopLoop(size_t i) {
  net::Loop* const loop = loops_[i].get();
  std::vector<std::shared_ptr<upstream::Dial>> dials;
  for (const auto& [id, dial] : dials_[i].running) dials.push_back(dial);
  for (const auto& [id, dial] : dials_[i].tests) dials.push_back(dial);
  for (const auto& dial : dials) dial->Abort();
  if (i == 0) resolver_->Shutdown();
  for (const auto& connection : table_.All()) {
    if (&connection->loop() != loop) continue;
    connection->CloseNow(pool::CloseReason::kShutdown);
  }
  loop->Finish();
}

absl::Status UpstreamImpl::Reconfigure(Options options) {
  auto fresh = MakeSettings(std::move(options), sessions_, settings().get());
  if (!fresh.ok()) return fresh.status();
  sessions_->SetCapacity((*fresh)->options.max_tls_sessions);
  set_settings(*std::move(fresh));
  return absl::OkStatus();
}

absl::StatusOr<bool> UpstreamImpl::RefreshTlsFiles() {
  const auto settings = this->settings();
  std::string error;
  auto fresh = settings->dial->tls->Refresh(&error);
  const bool changed = fresh != nullptr;
  if (changed) {
    auto dial = std::make_shared<DialSettings>(*settings->dial);
    dial->tls = std::move(fresh);
    set_settings(std::make_shared<const Settings>(
        Settings{settings->options, std::move(dial)}));
  }
  if (!error.empty()) return absl::InvalidArgumentError(error);
  return changed;
}

void UpstreamImpl::set_settings(std::shared_ptr<const Settings> settings) {
  keeper_->Configure(settings->options.addresses);
  MutexLock lock(&mu_);
  settings_.swap(settings);
  profile_turns_.clear();
}

// Calls.

CallId UpstreamImpl::StartCall(pool::ConnId conn, const Request& request,
                               CallHandler* handler, Instant now) {
  const auto connection = table_.Find(conn);
  if (connection != nullptr) {
    return connection->StartCall(request, handler, now);
  }
  handler->OnDone(Gone());
  return 0;
}

CallId UpstreamImpl::OpenStream(pool::ConnId conn, const Request& head,
                                bool end, StreamHandler* handler, Instant now) {
  const auto connection = table_.Find(conn);
  if (connection != nullptr) {
    return connection->OpenStream(head, end, handler, now);
  }
  handler->OnDone(Gone());
  return 0;
}

size_t UpstreamImpl::SendBody(pool::ConnId conn, CallId call,
                              std::string_view piece, bool end) {
  const auto connection = table_.Find(conn);
  return connection == nullptr ? 0 : connection->SendBody(call, piece, end);
}

void UpstreamImpl::Consume(pool::ConnId conn, CallId call, size_t bytes) {
  const auto connection = table_.Find(conn);
  if (connection != nullptr) connection->Consume(call, bytes);
}

void UpstreamImpl::ResumeAnswer(pool::ConnId conn, CallId call) {
  const auto connection = table_.Find(conn);
  if (connection != nullptr) connection->ResumeAnswer(call);
}

void UpstreamImpl::CancelCall(pool::ConnId conn, CallId call, CallError why) {
  const auto connection = table_.Find(conn);
  if (connection != nullptr) connection->CancelCall(call, why);
}

void UpstreamImpl::Close(pool::ConnId conn, pool::CloseReason reason) {
  const auto connection = table_.Find(conn);
  // Gone: the pool has been told.
  if (connection != nullptr) connection->Close(reason);
}

std::shared_ptr<const ConnectionFacts> UpstreamImpl::Describe(
    pool::ConnId conn) const {
  const auto connection = table_.Find(conn);
  return connection == nullptr ? nullptr : connection->facts();
}

std::optional<IpAddress> UpstreamImpl::AddressOf(pool::ConnId conn) const {
  const auto connection = table_.Find(conn);
  if (connection == nullptr || connection->ticket().epoch == 0) {
    return std::nullopt;
  }
  return connection->ticket().address;
}

std::vector<std::pair<std::string, Upstream::Counters>>
UpstreamImpl::TargetCounters() const {
  MutexLock lock(&mu_);
  return {counters_.begin(), counters_.end()};
}

// Time.

void UpstreamImpl::WakeAt(int shard, Instant when) {
  if (stopping_ || shard < 0 || shard >= kMaxShards || when == kNever) return;
  // One loop per shard, so that its ticks do not run into each other.
  net::Loop* const loop = loops_[shard % loops_.size()].get();
  net::Loop::Deadline later;
  {
    MutexLock lock(&ticks_mu_);
    net::Loop::Deadline& armed = ticks_[shard];
    if (armed && armed.when <= when) return;
    // The earlier one will see to it.
    later = std::exchange(
        armed, loop->RunAt(when, [this, shard, when] { Tick(shard, when); }));
  }
  loop->Cancel(later);
}

void UpstreamImpl::Tick(int shard, Instant armed) {
  {
    MutexLock lock(&ticks_mu_);
    net::Loop::Deadline& deadline = ticks_[shard];
    if (deadline.when != armed) return;
    deadline = {};
  }
  tick_(shard, MonotonicNow());
}

Upstream::Timer UpstreamImpl::RunAt(Instant when,
                                    absl::AnyInvocable<void()> work) {
  if (stopping_ || when == kNever) return {};
  size_t loop = 0;
  while (loop < loops_.size() && !loops_[loop]->RunsHere()) ++loop;
  if (loop == loops_.size()) loop = NextLoop();
  const auto deadline = loops_[loop]->RunAt(when, std::move(work));
  return {loop, deadline.when, deadline.sequence};
}

void UpstreamImpl::CancelTimer(const Timer& timer) {
  if (timer.sequence == 0) return;
  loops_[timer.loop]->Cancel({timer.when, timer.sequence});
}

std::vector<net::Loop*> UpstreamImpl::loops() const {
  std::vector<net::Loop*> loops;
  for (const auto& loop : loops_) loops.push_back(loop.get());
  return loops;
}

std::vector<Upstream::LoopFigures> UpstreamImpl::Loops() const {
  std::vector<LoopFigures> figures;
  for (const auto& loop : loops_) {
    figures.push_back({loop->turns(), loop->cpu_time()});
  }
  return figures;
}

Duration UpstreamImpl::LoopLag() const {
  const Instant now = MonotonicNow();
  Duration most{0};
  for (const auto& loop : loops_) most = std::max(most, loop->lag(now));
  return most;
}

}  // namespace hotline::upstream
