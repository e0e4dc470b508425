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
#include "base/log.h"
#include "base/version.h"
#include "server/admin/service.h"
#include "server/daemon/machine_limits.h"
#include "server/daemon/start_check.h"
#include "server/observe/front_figures.h"
#include "server/observe/status_page.h"

namespace hotline::server {
namespace {

void LogLeak(const pool::HostPoolKey& key, pool::ConnId conn,
             const pool::Holder& holder, Duration age) {
  HOTLINE_LOG(kWarning, "suspected leak: a lease is held for long",
              {{"target", key.target},
               {"connection", conn},
               {"held", age},
               {"client_id", holder.client_id},
               {"purpose", holder.purpose},
               {"trace", holder.trace}});
}

void LogBreaker(const std::string& target, const pool::BreakerChange& change) {
  if (change.state == pool::BreakerState::kClosed) {
    HOTLINE_LOG(kInfo, "circuit breaker closed", {{"target", target}});
    return;
  }
  HOTLINE_LOG(kWarning, "circuit breaker opened",
              {{"target", target},
               {"failures", change.failures},
               {"open_for", change.open_for},
               {"error", change.last_dial_error}});
}

uint32_t DrawInstance() {
  absl::BitGen random;
  return absl::Uniform<uint32_t>(random, 1, UINT32_MAX);
}

MetricsOptions MetricsOptionsOf(const Settings& settings) {
  MetricsOptions options;
  options.max_targets = settings.metrics_max_targets;
  options.version = kVersion;
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
               std::shared_ptr<const Settings> settings)
    : config_path_(std::move(config_path)),
      stamp_(FileStamp::Of(config_path_)),
      started_(settings),
      current_(settings),
      instance_(DrawInstance()),
      call_metrics_(settings->metrics_max_targets) {}

Daemon::~Daemon() { Stop(); }

absl::Status Daemon::Start() {
  const auto settings = current_.get();
  auto upstream = upstream::Upstream::Create(UpstreamOptions(settings));
  if (!upstream.ok()) return upstream.status();
  upstream_ = *std::move(upstream);
  StartPool(*settings);
  StartWarming(*settings);
  broker_ =
      std::make_unique<Broker>(BrokerSettingsFor(*settings), instance_,
                               pool_.get(), upstream_.get(), &call_metrics_);
  if (absl::Status status = StartHttp(*settings); !status.ok()) return status;
  if (absl::Status status = StartAdmin(*settings); !status.ok()) return status;
  if (absl::Status status = StartFront(*settings); !status.ok()) return status;

  SetServing(true);
  warm_->StartHealth();
  for (const std::string& address : front_->addresses()) {
    HOTLINE_LOG(kInfo, "listening",
                {{"protocol", "grpc"}, {"address", address}});
  }
  WritePorts();
  return absl::OkStatus();
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
      upstream_.get(), LogLeak, LogBreaker);
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
            if (front_ != nullptr) front_->SetHealth(service, serving);
            if (admin_ != nullptr) admin_->SetHealth(service, serving);
          }});
  warm_->Configure(settings);
  WarmTargets(settings);
  warm_->Start(MonotonicNow());
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
  http.metrics = [this](MetricsFormat format) {
    return metrics_->Render(format);
  };
  http.not_ready = [this] {
    std::vector<std::string> reasons = warm_->NotReady();
    if (draining_.load()) reasons.push_back("draining");
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
  auto admin = Admin::Start(settings.admin, admin_service_.get());
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
    return origin;
  };
  // The signal ends the wait of the daemon's thread.
  hooks.reload = [this] {
    return reloads_.Ask([] { kill(getpid(), SIGHUP); });
  };
  hooks.draining = [this] { return draining_.load(); };
  hooks.set_log_level = [this](LogLevel level, Duration duration) {
    log_level_until_ =
        duration > Duration(0) ? MonotonicNow() + duration : kNever;
    SetLogLevel(level);
  };
  return hooks;
}

void Daemon::SetServing(bool serving) {
  front_->SetServing(serving);
  if (admin_ != nullptr) admin_->SetServing(serving);
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
  // How soon a changed file is noticed.
  const timespec interval = {.tv_sec = 1, .tv_nsec = 0};
  for (;;) {
    const int signal = sigtimedwait(&signals, nullptr, &interval);
    if (signal == SIGTERM || signal == SIGINT) {
      HOTLINE_LOG(kInfo, "draining", {{"signal", strsignal(signal)}});
      return;
    }
    ReloadRequests::Asked asked = reloads_.Take();
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
  reloads_.Close();
  SetServing(false);
  warm_->StartDrain();
  warm_->Save(MonotonicNow(), /*at_once=*/true);
  broker_->StartDrain(MonotonicNow());
  const Instant end = MonotonicNow() + current_.get()->shutdown_grace;
  const timespec step = {.tv_sec = 0, .tv_nsec = 20'000'000};
  while (!broker_->Drained(MonotonicNow()) && MonotonicNow() < end) {
    const int signal = sigtimedwait(&signals, nullptr, &step);
    if (signal == SIGTERM || signal == SIGINT) {
      HOTLINE_LOG(kWarning, "second signal: the grace period is over");
      break;
    }
  }
  broker_->AbortCalls();
  // Time for the responses of the aborted calls to be sent.
  front_->Stop(std::chrono::seconds(2));
  // Last: an operator can watch the drain to its end.
  if (admin_ != nullptr) admin_->Stop(std::chrono::milliseconds(200));
  HOTLINE_LOG(kInfo, "stopped");
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

void Daemon::RestoreLogLevel() {
  if (MonotonicNow() < log_level_until_.load()) return;
  log_level_until_ = kNever;
  SetLogLevel(current_.get()->log_level);
  HOTLINE_LOG(kInfo, "the configured log level is back");
}

absl::Status Daemon::Apply(std::shared_ptr<const Settings> settings) {
  // First, because it is the only part that can still fail (files, addresses);
  // it is all or nothing. Until it has succeeded, no target uses the new
  // settings.
  absl::Status status = upstream_->Reconfigure(UpstreamOptions(settings));
  if (!status.ok()) return status;
  current_.set(settings);
  pool::PoolConfig pool_config = settings->pool;
  pool_config.instance = instance_;
  pool_->Reconfigure(pool_config, MonotonicNow());
  broker_->Reconfigure(BrokerSettingsFor(*settings));
  log_level_until_ = kNever;
  SetLogLevel(settings->log_level);
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
  } else if (changed.ok() && (*changed || !tls_files_error_.empty())) {
    HOTLINE_LOG(kInfo, "TLS files reloaded");
  }
  tls_files_error_ = error;
}

void Daemon::RefreshCertificates() {
  if (certificates_ == nullptr) return;
  const absl::StatusOr<bool> changed = certificates_->Refresh();
  if (!changed.ok()) {
    static LogLimiter limiter(std::chrono::seconds(60));
    HOTLINE_LOG_LIMITED(limiter, kError,
                        "certificates refused: the previous ones stay in use",
                        {{"error", changed.status().message()}});
  } else if (*changed) {
    HOTLINE_LOG(kInfo, "certificates reloaded");
  }
}

}  // namespace hotline::server
