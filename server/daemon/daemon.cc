#include "server/daemon/daemon.h"

#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/version.h"
#include "server/admin/service.h"
#include "server/broker/event_sources.h"
#include "server/broker/stats_view.h"
#include "server/daemon/build_facts.h"
#include "server/daemon/change_log.h"
#include "server/daemon/machine_limits.h"
#include "server/daemon/start_check.h"
#include "server/daemon/systemd.h"
#include "server/observe/call_reports.h"
#include "server/observe/front_figures.h"
#include "server/observe/status_page.h"

namespace hotline::server {
namespace {

void LogLeak(const pool::PoolEvent& event) {
  const pool::Holder nobody;
  const pool::Holder& holder = event.holder != nullptr ? *event.holder : nobody;
  HOTLINE_LOG(kWarning, "suspected leak: a lease is held for long",
              {{"target", event.key->target},
               {"connection", event.conn},
               {"held", event.length},
               {"client_id", holder.client_id},
               {"purpose", holder.purpose},
               {"trace", holder.trace}});
}

void LogBreaker(const pool::PoolEvent& event) {
  const std::string& target = event.key->target;
  if (event.breaker == pool::BreakerState::kClosed) {
    HOTLINE_LOG(kInfo, "circuit breaker closed", {{"target", target}});
    return;
  }
  HOTLINE_LOG(kWarning, "circuit breaker opened",
              {{"target", target},
               {"failures", event.failures},
               {"open_for", event.length},
               {"error", event.error}});
}

// The events of the pool that are lines of the log.
void LogEvent(const pool::PoolEvent& event) {
  if (event.kind == pool::PoolEvent::Kind::kLeaseLeaked) LogLeak(event);
  if (event.kind == pool::PoolEvent::Kind::kBreaker) LogBreaker(event);
}

uint32_t DrawInstance() {
  absl::BitGen random;
  return absl::Uniform<uint32_t>(random, 1, UINT32_MAX);
}

MetricsOptions MetricsOptionsOf(const Settings& settings) {
  MetricsOptions options;
  options.max_targets = settings.metrics_max_targets;
  options.version = kVersion;
  options.build = BuildFacts();
  for (const auto& [target, unused] : settings.targets) {
    options.known_targets.push_back(target);
  }
  return options;
}

std::vector<std::pair<std::string, UpstreamFigures>> UpstreamFiguresOf(
    const upstream::Upstream& upstream) {
  std::vector<std::pair<std::string, UpstreamFigures>> out;
  for (const auto& [target, counters] : upstream.TargetCounters()) {
    out.push_back({target,
                   {.unsolicited_bytes = counters.unsolicited_bytes,
                    .full_handshakes = counters.full_handshakes,
                    .resumed_handshakes = counters.resumed_handshakes,
                    .certificate_expires = counters.certificate_not_after}});
  }
  return out;
}

AddressCounts CountAddresses(const upstream::Upstream& upstream,
                             const std::string& target) {
  static_assert(kAddressStates.size() ==
                static_cast<size_t>(upstream::AddressState::kDenied) + 1);
  AddressCounts counts{};
  for (const upstream::AddressRow& row : upstream.Addresses(target)) {
    ++counts[static_cast<size_t>(row.state)];
  }
  return counts;
}

std::vector<LoopFigures> LoopFiguresOf(const upstream::Upstream& upstream) {
  std::vector<LoopFigures> out;
  for (const auto& loop : upstream.Loops()) {
    out.push_back({loop.turns, loop.cpu});
  }
  return out;
}

DnsFigures DnsFiguresOf(const upstream::Upstream& upstream) {
  const upstream::DnsCounters dns = upstream.Dns();
  return {dns.ok, dns.no_address, dns.failed, dns.seconds};
}

}  // namespace

Daemon::Daemon(std::string config_path,
               std::shared_ptr<const Settings> settings,
               std::string takeover_path)
    : config_path_(std::move(config_path)),
      takeover_path_(std::move(takeover_path)),
      stamp_(FileStamp::Of(config_path_)),
      started_(settings),
      current_(settings),
      instance_(DrawInstance()),
      log_levels_(settings->log_level),
      call_metrics_(settings->metrics_max_targets),
      spans_({.instance = InstanceName(instance_)}) {}

Daemon::~Daemon() { Stop(); }

absl::Status Daemon::Start() {
  const auto settings = current_.get();
  if (absl::Status status = FindPredecessor(); !status.ok()) return status;
  auto upstream = upstream::Upstream::Create(UpstreamOptions(settings));
  if (!upstream.ok()) return upstream.status();
  upstream_ = *std::move(upstream);
  StartPool(*settings);
  StartWarming(*settings);
  broker_ = std::make_unique<Broker>(BrokerSettingsOf(*settings), instance_,
                                     pool_.get(), upstream_.get(),
                                     &call_metrics_, &events_);
  if (absl::Status status = AwaitWarm(settings->rewarm.patience);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = StartHttp(*settings); !status.ok()) return status;
  if (absl::Status status = StartAdmin(*settings); !status.ok()) return status;
  if (absl::Status status = StartFront(*settings); !status.ok()) return status;

  SetServing(true);
  Note(v1::EVENT_KIND_PROCESS, "started", absl::StrCat("hotlined ", kVersion));
  warm_->StartHealth();
  for (const std::string& address : front_->addresses()) {
    HOTLINE_LOG(kInfo, "listening",
                {{"protocol", "grpc"}, {"address", address}});
  }
  if (absl::Status status = TakeCharge(); !status.ok()) return status;
  WritePorts();
  return absl::OkStatus();
}

BrokerSettings Daemon::BrokerSettingsOf(const Settings& settings) {
  spans_.SetCollector(settings.tracing.collector);
  BrokerSettings out = BrokerSettingsFor(settings);
  out.observer =
      MakeCallReports(settings.access_log, settings.tracing, &spans_);
  return out;
}

void Daemon::StartPool(const Settings& settings) {
  pool::PoolConfig config = settings.pool;
  config.instance = instance_;
  config.seed = absl::Uniform<uint64_t>(absl::BitGen());
  config.loops = static_cast<int>(upstream_->loops().size());
  pool_ = std::make_unique<pool::Pool>(
      config,
      [this](const std::string& target) {
        return current_.get()->PoolFor(target);
      },
      upstream_.get(),
      [into_log = EventsInto(&events_)](const pool::PoolEvent& event) {
        LogEvent(event);
        into_log(event);
      });
  upstream_->Observe(ObserverInto(&events_));
  upstream_->Start(pool_.get(),
                   [this](int shard, Instant now) { pool_->Tick(shard, now); });
}

// Before the first caller, so that warm connections are dialled first.
void Daemon::StartWarming(const Settings& settings) {
  warm_ = std::make_unique<WarmKeeper>(WarmKeeper::Hooks{
      .pool = pool_.get(),
      .run_at =
          [this](Instant when, absl::AnyInvocable<void()> work) {
            upstream_->RunAt(when, std::move(work));
          },
      .set_health =
          [this](const std::string& service, bool serving) {
            NoteWarm(service, serving);
            if (front_ != nullptr) front_->SetHealth(service, serving);
            if (admin_ != nullptr) admin_->SetHealth(service, serving);
          }});
  warm_->Configure(settings);
  WarmTargets(settings);
  warm_->Start(MonotonicNow(),
               predecessor_ ? &predecessor_->warm_set() : nullptr);
}

void Daemon::NoteWarm(const std::string& service, bool reached) {
  if (draining_) return;  // Every target's health ends.
  events_.Add({.kind = v1::EVENT_KIND_WARM,
               .target = std::string(absl::StripPrefix(service, "target:")),
               .reason = reached ? "reached" : "missed"},
              MonotonicNow());
}

void Daemon::Note(v1::EventKind kind, std::string_view reason,
                  std::string text) {
  events_.Add({.kind = kind, .reason = reason, .text = std::move(text)},
              MonotonicNow());
}

void Daemon::WarmTargets(const Settings& settings) {
  for (const auto& [target, mine] : settings.targets) {
    if (mine.pool.warm > 0) pool_->Warm(target, MonotonicNow());
  }
}

absl::Status Daemon::StartFront(const Settings& settings) {
  const FrontOptions options = FrontOptionsFor(settings);
  if (!options.tls.cert_file.empty()) {
    auto certificates = Certificates::Load(options.tls);
    if (!certificates.ok()) return certificates.status();
    certificates_ = *std::move(certificates);
  }
  Front::Parts parts;
  parts.broker = broker_.get();
  parts.metrics = &rpc_metrics_;
  parts.identities = Front::HasIdentities(options) ? &identities_ : nullptr;
  parts.certificates = certificates_.get();
  parts.inherited = inherited_.get();
  auto front = Front::Start(options, parts, upstream_->loops());
  if (!front.ok()) return front.status();
  front_ = *std::move(front);
  front_now_ = front_.get();
  return absl::OkStatus();
}

std::unique_ptr<Metrics> Daemon::MakeMetrics(const Settings& settings) {
  MetricsSources sources;
  sources.pool = [this] { return pool_->TakeSnapshot({}, MonotonicNow()); };
  sources.executes = &call_metrics_;
  sources.rpcs = &rpc_metrics_;
  sources.upstream = [this] { return UpstreamFiguresOf(*upstream_); };
  sources.addresses = [this](const std::string& target) {
    return CountAddresses(*upstream_, target);
  };
  sources.dns = [this] { return DnsFiguresOf(*upstream_); };
  sources.loop_lag = [this] { return upstream_->LoopLag(); };
  sources.loops = [this] { return LoopFiguresOf(*upstream_); };
  sources.rewarm = [this]() -> RewarmFigures {
    const WarmKeeper::Rewarming rewarming = warm_->rewarming();
    return {rewarming.ready, rewarming.missing};
  };
  sources.front = [this] {
    // /metrics is served before the gRPC listeners are.
    const Front* const front = front_now_.load();
    return FiguresOf(*broker_, identities_, front,
                     front ? certificates_.get() : nullptr);
  };
  sources.spans = [this] {
    const SpanExporter::Counts counts = spans_.counts();
    return SpanFigures{counts.sent, counts.dropped, counts.refused};
  };
  sources.config_ok = [this] { return config_ok_.load(); };
  sources.config_loaded = [this] {
    return std::chrono::duration<double>(current_.loaded().time_since_epoch())
        .count();
  };
  sources.restart_needed = [this] { return restart_needed_.load(); };
  sources.tls_files_ok = [this] { return tls_files_ok_.load(); };
  return std::make_unique<Metrics>(MetricsOptionsOf(settings),
                                   std::move(sources));
}

absl::Status Daemon::StartHttp(const Settings& settings) {
  metrics_ = MakeMetrics(settings);
  if (settings.http_listen.empty()) return absl::OkStatus();
  AdminHttpOptions http;
  http.address = settings.http_listen;
  http.listening_fd = inherited_->Take(kHttpRole, http.address).fd;
  http.metrics = [this](MetricsFormat format) {
    return metrics_->Render(format);
  };
  http.not_ready = [this] {
    std::vector<std::string> reasons = warm_->NotReady();
    if (draining_.load() && !handed_over_.load()) reasons.push_back("draining");
    if (broker_->drained()) reasons.push_back("drained by an operator");
    return reasons;
  };
  http.status_page = [this] {
    return StatusPage(pool_->TakeSnapshot({}, MonotonicNow()), kVersion);
  };
  auto started = AdminHttp::Start(std::move(http));
  if (!started.ok()) return started.status();
  http_ = *std::move(started);
  HOTLINE_LOG(kInfo, "listening",
              {{"protocol", "http"},
               {"address", settings.http_listen},
               {"port", http_->port()}});
  return absl::OkStatus();
}

absl::Status Daemon::StartAdmin(const Settings& settings) {
  if (settings.admin.address.empty()) return absl::OkStatus();
  admin_service_ = std::make_unique<AdminService>(
      AdminService::Parts{.pool = pool_.get(),
                          .upstream = upstream_.get(),
                          .broker = broker_.get(),
                          .identities = &identities_,
                          .hooks = MakeAdminHooks()});
  auto admin =
      Admin::Start(settings.admin, admin_service_.get(), inherited_.get());
  if (!admin.ok()) return admin.status();
  admin_ = *std::move(admin);
  HOTLINE_LOG(kInfo, "listening",
              {{"protocol", "admin"}, {"address", admin_->address()}});
  return absl::OkStatus();
}

AdminHooks Daemon::MakeAdminHooks() {
  AdminHooks hooks;
  hooks.config = [this] {
    ConfigOrigin origin;
    origin.file = config_path_;
    origin.loaded = current_.loaded();
    origin.last_error = current_.last_error();
    origin.started = started_;
    origin.now = current_.get();
    origin.overrides = log_levels_.InWords(MonotonicNow());
    if (const std::string applied = current_.applied(); !applied.empty()) {
      origin.overrides.push_back(
          "the configuration is that of " + applied +
          ", applied by an operator; the next reload ends it");
    }
    return origin;
  };
  // The signal ends the wait of the daemon's thread.
  hooks.reload = [this] {
    return reloads_.Ask([] { kill(getpid(), SIGHUP); });
  };
  hooks.draining = [this] { return draining_.load(); };
  hooks.drain_changed = [this] { ShowServing(); };
  hooks.set_log_level = [this](LogLevel level, const std::string& target,
                               Duration duration) {
    const bool ends = duration > Duration(0);
    return log_levels_.Set(level, target,
                           ends ? MonotonicNow() + duration : kNever);
  };
  hooks.check = [](const std::string& yaml, const std::string& name) {
    ConfigChecks checks = ChecksOfMachine();
    checks.lookup = LookUpOutside;
    return ParseConfig(yaml, name, /*cores=*/0, checks);
  };
  // The daemon's thread looks once a second.
  hooks.use = [this](std::shared_ptr<const Settings> settings,
                     const std::string& name) {
    return reloads_.Ask([] {}, {std::move(settings), name});
  };
  return hooks;
}

void Daemon::SetServing(bool serving) {
  MutexLock lock(&serving_mu_);
  serving_ = serving;
  const bool now = serving && !broker_->drained();
  front_->SetServing(now);
  if (admin_ != nullptr) admin_->SetServing(now);
}

void Daemon::ShowServing() {
  MutexLock lock(&serving_mu_);
  // Otherwise the listeners may not exist yet, or any more.
  if (!serving_) return;
  front_->SetServing(!broker_->drained());
  admin_->SetServing(!broker_->drained());
}

// For a parent that configures port 0: writes the addresses as one JSON object
// to the file that HOTLINE_PORTS_FILE names. Renamed into place, so that a
// reader finds all of it or no file.
void Daemon::WritePorts() const {
  const char* path = std::getenv("HOTLINE_PORTS_FILE");
  if (path == nullptr) return;
  const std::string& configured = current_.get()->http_listen;
  const std::string http =
      http_ == nullptr
          ? ""
          : absl::StrCat(configured.substr(0, configured.rfind(':')), ":",
                         http_->port());
  const std::string temporary = absl::StrCat(path, ".tmp");
  std::ofstream out(temporary);
  out << "{\"grpc\": [\"" << absl::StrJoin(front_->addresses(), "\", \"")
      << "\"], \"http\": \"" << http << "\", \"admin\": \""
      << (admin_ == nullptr ? "" : admin_->address()) << "\"}\n";
  out.close();
  if (!out || std::rename(temporary.c_str(), path) != 0) {
    HOTLINE_LOG(kError, "cannot write HOTLINE_PORTS_FILE", {{"path", path}});
  }
}

void Daemon::ServeUntilSignalled(const sigset_t& signals) {
  for (;;) {
    const int signal = AwaitSignal(signals);
    if (signal == SIGTERM || signal == SIGINT) {
      HOTLINE_LOG(kInfo, "draining", {{"signal", strsignal(signal)}});
      return;
    }
    if (HandOverIfTaken()) return;
    if (signal == SIGUSR2) StartSuccessor();
    successor_.Reap();
    ReloadRequests::Asked asked = reloads_.Take();
    asked.Use(
        [this](const ReloadRequests::Update& update) { return Use(update); });
    if (signal == SIGHUP || !asked.empty() ||
        !(FileStamp::Of(config_path_) == stamp_)) {
      asked.Answer(Reload());
    }
    RestoreLogLevel();
    RefreshTlsFiles();
    TrimMemory();
    warm_->Save(MonotonicNow());
    RefreshCertificates();
  }
}

void Daemon::Drain(const sigset_t& signals) {
  draining_ = true;
  Note(v1::EVENT_KIND_PROCESS, "draining");
  reloads_.Close();
  const Instant end = MonotonicNow() + current_.get()->shutdown_grace;
  if (handed_over_) {
    AwaitGoneCallers(signals, end);
  } else {
    takeover_ = nullptr;
    NotifySystemd("STOPPING=1");
    SetServing(false);
    warm_->StartDrain();
    warm_->Save(MonotonicNow(), /*at_once=*/true);
    broker_->StartDrain(MonotonicNow());
    AwaitDrained(signals, end,
                 [this] { return broker_->Drained(MonotonicNow()); });
  }
  broker_->AbortCalls();
  // Time for the responses of the aborted calls to be sent.
  front_->Stop(std::chrono::seconds(2));
  // Those of the calls that have just ended, too.
  spans_.Stop();
  // Last: an operator can watch the drain to its end.
  if (admin_ != nullptr) admin_->Stop(std::chrono::milliseconds(200));
  HOTLINE_LOG(kInfo, "stopped");
}

void Daemon::AwaitDrained(const sigset_t& signals, Instant end,
                          absl::FunctionRef<bool()> drained) {
  const timespec step = {.tv_sec = 0, .tv_nsec = 20'000'000};
  while (!drained() && MonotonicNow() < end) {
    const int signal = sigtimedwait(&signals, nullptr, &step);
    if (signal == SIGTERM || signal == SIGINT) {
      HOTLINE_LOG(kWarning, "second signal: the grace period is over");
      return;
    }
  }
}

// Listeners first: their callbacks use the rooms below.
void Daemon::Stop() {
  if (warm_ != nullptr) warm_->StartDrain();
  reloads_.Close();
  if (front_ != nullptr) front_->Stop(Duration(0));
  if (admin_ != nullptr) admin_->Stop(Duration(0));
  http_ = nullptr;
  if (upstream_ != nullptr) upstream_->Stop();
}

absl::Status Daemon::Reload() {
  if (config_path_.empty()) {
    constexpr char kNothing[] = "nothing to reload: started without --config";
    HOTLINE_LOG(kWarning, kNothing);
    return absl::InvalidArgumentError(kNothing);
  }
  absl::Status status = LoadAndApply();
  config_ok_ = status.ok();
  current_.set_last_error(std::string(status.message()));
  Note(v1::EVENT_KIND_CONFIG, status.ok() ? "loaded" : "refused",
       std::string(status.message()));
  if (status.ok()) {
    HOTLINE_LOG(kInfo, "configuration reloaded", {{"path", config_path_}});
  } else {
    HOTLINE_LOG(kError,
                "configuration refused: the previous one stays in force",
                {{"error", status.message()}});
  }
  return status;
}

absl::Status Daemon::LoadAndApply() {
  stamp_ = FileStamp::Of(config_path_);
  auto loaded = LoadConfig(config_path_, /*cores=*/0, ChecksOfStart());
  if (!loaded.ok()) return loaded.status();
  auto settings = std::make_shared<const Settings>(*std::move(loaded));
  for (const std::string& warning : settings->warnings) {
    HOTLINE_LOG(kWarning, warning);
  }
  return Apply(std::move(settings));
}

absl::Status Daemon::Use(const ReloadRequests::Update& update) {
  absl::Status status = Apply(update.settings, update.name);
  if (status.ok()) {
    HOTLINE_LOG(kInfo, "configuration applied", {{"name", update.name}});
  }
  return status;
}

void Daemon::RestoreLogLevel() {
  if (!log_levels_.Expire(MonotonicNow())) return;
  HOTLINE_LOG(kInfo, "the configured log level is back");
}

absl::Status Daemon::Apply(std::shared_ptr<const Settings> settings,
                           std::string applied) {
  // First, because it is the only part that can still fail (files, addresses);
  // it is all or nothing. Until it has succeeded, no target uses the new
  // settings.
  absl::Status status = upstream_->Reconfigure(UpstreamOptions(settings));
  if (!status.ok()) return status;
  LogChanges(*current_.get(), *settings);
  current_.set(settings, std::move(applied));
  pool::PoolConfig pool_config = settings->pool;
  pool_config.instance = instance_;
  pool_->Reconfigure(pool_config, MonotonicNow());
  broker_->Reconfigure(BrokerSettingsOf(*settings));
  log_levels_.Configure(settings->log_level);
  SetLogFormat(settings->log_format);
  warm_->Configure(*settings);
  WarmTargets(*settings);
  ReportKeysOfStart(settings);
  return absl::OkStatus();
}

void Daemon::ReportKeysOfStart(
    const std::shared_ptr<const Settings>& settings) {
  const std::vector<std::string> keys = WaitingForStart(*started_, *settings);
  restart_needed_ = !keys.empty();
  if (keys.empty()) return;
  HOTLINE_LOG(kWarning,
              "the file differs from the one the process was started with in "
              "keys that take effect at the next start only",
              {{"keys", absl::StrJoin(keys, ", ")}});
  std::vector<std::string> unused;
  if (absl::Status start = CheckStart(settings, &unused); !start.ok()) {
    HOTLINE_LOG(kError, "the next start would fail",
                {{"error", start.message()}});
  }
}

void Daemon::TrimMemory() {
  constexpr int64_t kWorthwhile = 16 << 20;
  AnswerMemory& answers = broker_->answers();
  answers_peak_ = std::max(answers_peak_, answers.TakePeak());
  if (answers_peak_ < kWorthwhile || answers.used() > answers_peak_ / 2) return;
  // The allocator keeps the memory of large answers. When half of them are
  // gone, so is the need for half of it: expect half as much the next time.
  malloc_trim(0);
  answers_peak_ /= 2;
}

void Daemon::RefreshTlsFiles() {
  const auto changed = upstream_->RefreshTlsFiles();
  tls_files_ok_ = changed.ok();
  const std::string error(changed.status().message());
  if (error != tls_files_error_ && !error.empty()) {
    HOTLINE_LOG(kError, "TLS files refused: the previous ones stay in use",
                {{"error", error}});
    Note(v1::EVENT_KIND_CONFIG, "tls_files_refused", error);
  } else if (changed.ok() && (*changed || !tls_files_error_.empty())) {
    HOTLINE_LOG(kInfo, "TLS files reloaded");
    Note(v1::EVENT_KIND_CONFIG, "tls_files_loaded");
  }
  tls_files_error_ = error;
}

void Daemon::RefreshCertificates() {
  if (certificates_ == nullptr) return;
  const absl::StatusOr<bool> changed = certificates_->Refresh();
  if (!changed.ok()) {
    static LogLimiter limiter(std::chrono::seconds(60));
    if (!limiter.Admit(MonotonicNow())) return;
    const std::string error(changed.status().message());
    HOTLINE_LOG(kError, "certificates refused: the previous ones stay in use",
                {{"error", error}});
    Note(v1::EVENT_KIND_CONFIG, "certificates_refused", error);
  } else if (*changed) {
    HOTLINE_LOG(kInfo, "certificates reloaded");
    Note(v1::EVENT_KIND_CONFIG, "certificates_loaded");
  }
}

}  // namespace hotline::server
