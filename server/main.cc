// hotlined: reads the configuration, wires the rooms together, serves, drains.
//
// This is the only place that knows all the rooms. The main thread wires, then
// waits for signals; it carries no traffic.

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "base/library_log/library_log.h"
#include "base/log.h"
#include "base/version.h"
#include "pool/pool.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"
#include "server/config/config.h"
#include "server/daemon/front_options.h"
#include "server/daemon/start_check.h"
#include "server/daemon/upstream_options.h"
#include "server/daemon/warm_keeper.h"
#include "server/front/certificates.h"
#include "server/front/grpc_server.h"
#include "server/front/grpc_service.h"
#include "server/observe/admin_http.h"
#include "server/observe/metrics.h"
#include "server/observe/status_page.h"
#include "upstream/upstream.h"

namespace hotline::server {
namespace {

// Exit codes, as --help lists them.
constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

// The settings in force: replaced as a whole by a reload, read by any thread.
class CurrentSettings {
 public:
  std::shared_ptr<const Settings> get() const {
    MutexLock lock(&mu_);
    return settings_;
  }
  void set(std::shared_ptr<const Settings> settings) {
    MutexLock lock(&mu_);
    settings_ = std::move(settings);
  }

 private:
  mutable Mutex mu_;
  std::shared_ptr<const Settings> settings_ ABSL_GUARDED_BY(mu_);
};

// When the file was last changed, and which file it is: a ConfigMap is updated
// by pointing a link elsewhere.
struct FileStamp {
  int64_t mtime_ns = 0;
  uint64_t inode = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

FileStamp StampOf(const std::string& path) {
  struct stat info;
  if (path.empty() || stat(path.c_str(), &info) != 0) return {};
  return {info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec,
          info.st_ino};
}

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

// One running hotlined.
class Daemon {
 public:
  Daemon(std::string config_path, std::shared_ptr<const Settings> settings);
  ~Daemon() { Stop(); }

  absl::Status Start();
  // Until SIGTERM or SIGINT; SIGHUP and a changed file reload.
  void ServeUntilSignalled(const sigset_t& signals);
  void Drain(const sigset_t& signals);

 private:
  void Reload();
  void RefreshTlsFiles();
  // After much has been freed.
  void TrimMemory();
  absl::Status Apply(std::shared_ptr<const Settings> settings);
  void StartWarming(const Settings& settings);
  absl::Status StartGrpc();
  absl::Status StartHttp();
  void RefreshCertificates();
  void WritePorts() const;
  void Stop();

  const std::string config_path_;
  FileStamp stamp_;
  const std::shared_ptr<const Settings> started_;
  CurrentSettings current_;
  uint32_t instance_ = 0;
  std::atomic<bool> draining_{false};
  std::atomic<bool> config_ok_{true};
  std::atomic<bool> restart_needed_{false};
  std::atomic<bool> tls_files_ok_{true};
  std::string tls_files_error_;  // As last logged; empty while all is well.
  int64_t answers_peak_ = 0;     // Since the last trim.

  // In the order in which they are made; each needs only those above it.
  RpcMetrics rpc_metrics_;
  ExecuteMetrics execute_metrics_;
  IdentityTable identities_;
  std::unique_ptr<Certificates> certificates_;
  std::unique_ptr<upstream::Upstream> upstream_;
  std::unique_ptr<pool::Pool> pool_;
  std::unique_ptr<WarmKeeper> warm_;
  std::unique_ptr<Broker> broker_;
  std::unique_ptr<BrokerService> service_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<AdminHttp> http_;
  std::unique_ptr<GrpcServer> grpc_;
  std::atomic<const GrpcServer*> grpc_now_{nullptr};  // For the HTTP thread.
};

Daemon::Daemon(std::string config_path,
               std::shared_ptr<const Settings> settings)
    : config_path_(std::move(config_path)),
      stamp_(StampOf(config_path_)),
      started_(settings),
      execute_metrics_(settings->metrics_max_targets) {
  current_.set(std::move(settings));
}

absl::Status Daemon::Start() {
  const auto settings = current_.get();
  auto upstream = upstream::Upstream::Create(UpstreamOptionsOf(settings));
  if (!upstream.ok()) return upstream.status();
  upstream_ = *std::move(upstream);

  absl::BitGen random;
  instance_ = absl::Uniform<uint32_t>(random, 1, UINT32_MAX);
  pool::PoolConfig pool_config = settings->pool;
  pool_config.instance = instance_;
  pool_config.seed = absl::Uniform<uint64_t>(random);
  pool_ = std::make_unique<pool::Pool>(
      pool_config,
      [this](const std::string& target) {
        return current_.get()->PoolFor(target);
      },
      upstream_.get(), LogLeak, LogBreaker);
  upstream_->Start(pool_.get(),
                   [this](int shard, Instant now) { pool_->Tick(shard, now); });

  StartWarming(*settings);
  broker_ =
      std::make_unique<Broker>(BrokerSettingsOf(*settings), instance_,
                               pool_.get(), upstream_.get(), &execute_metrics_);
  if (absl::Status status = StartHttp(); !status.ok()) return status;
  if (absl::Status status = StartGrpc(); !status.ok()) return status;

  warm_->Watch();
  for (const std::string& address : grpc_->addresses()) {
    HOTLINE_LOG(kInfo, "listening",
                {{"protocol", "grpc"}, {"address", address}});
  }
  WritePorts();
  return absl::OkStatus();
}

// Before anybody can call.
void Daemon::StartWarming(const Settings& settings) {
  warm_ = std::make_unique<WarmKeeper>(WarmKeeper::World{
      .pool = pool_.get(),
      .run_at =
          [this](Instant when, absl::AnyInvocable<void()> work) {
            upstream_->RunAt(when, std::move(work));
          },
      .set_health =
          [this](const std::string& service, bool serving) {
            if (grpc_ != nullptr) grpc_->SetHealth(service, serving);
          }});
  warm_->Configure(settings);
  for (const auto& [target, target_settings] : settings.targets) {
    if (target_settings.pool.warm > 0) pool_->Warm(target, MonotonicNow());
  }
  warm_->Start(MonotonicNow());
}

absl::Status Daemon::StartGrpc() {
  const auto settings = current_.get();
  const ListenSettings& listen = settings->listen;
  if (!listen.cert_file.empty()) {
    auto certificates = Certificates::Load(
        {listen.cert_file, listen.key_file, listen.client_ca_file});
    if (!certificates.ok()) return certificates.status();
    certificates_ = *std::move(certificates);
  }
  const GrpcServerOptions options =
      GrpcOptionsOf(*settings, certificates_.get());
  service_ = std::make_unique<BrokerService>(
      broker_.get(), &rpc_metrics_,
      GrpcServer::HasIdentities(options) ? &identities_ : nullptr);
  auto grpc = GrpcServer::Start(options, service_.get());
  if (!grpc.ok()) return grpc.status();
  grpc_ = *std::move(grpc);
  grpc_now_ = grpc_.get();
  return absl::OkStatus();
}

absl::Status Daemon::StartHttp() {
  const auto settings = current_.get();
  MetricsOptions options;
  options.max_targets = settings->metrics_max_targets;
  options.version = kVersion;
  for (const auto& [target, unused] : settings->targets) {
    options.known_targets.push_back(target);
  }
  MetricsSources sources;
  sources.pool = [this] { return pool_->TakeSnapshot({}, MonotonicNow()); };
  sources.executes = &execute_metrics_;
  sources.rpcs = &rpc_metrics_;
  sources.upstream = [this] {
    std::vector<std::pair<std::string, UpstreamFigures>> out;
    for (const auto& [target, counters] : upstream_->TargetCounters()) {
      out.push_back({target,
                     {.unsolicited_bytes = counters.unsolicited_bytes,
                      .full_handshakes = counters.full_handshakes,
                      .resumed_handshakes = counters.resumed_handshakes}});
    }
    return out;
  };
  sources.loop_lag = [this] { return upstream_->LoopLag(); };
  sources.front = [this] {
    // The page is served before the first caller is.
    const GrpcServer* const grpc = grpc_now_.load();
    return FiguresOf(*broker_, grpc, grpc ? certificates_.get() : nullptr);
  };
  sources.config_ok = [this] { return config_ok_.load(); };
  sources.restart_needed = [this] { return restart_needed_.load(); };
  sources.tls_files_ok = [this] { return tls_files_ok_.load(); };
  metrics_ = std::make_unique<Metrics>(std::move(options), std::move(sources));
  if (settings->http_listen.empty()) return absl::OkStatus();

  AdminHttpOptions http;
  http.address = settings->http_listen;
  http.metrics = [this] { return metrics_->Render(); };
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
               {"address", settings->http_listen},
               {"port", http_->port()}});
  return absl::OkStatus();
}

// For whoever started us with port 0: where we listen, as one JSON object, in
// the file that HOTLINE_PORTS_FILE names. Renamed into place, so it is whole.
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
  out << "{\"grpc\": [\"" << absl::StrJoin(grpc_->addresses(), "\", \"")
      << "\"], \"http\": \"" << http << "\"}\n";
  out.close();
  if (!out || std::rename(temporary.c_str(), path) != 0) {
    HOTLINE_LOG(kError, "cannot write HOTLINE_PORTS_FILE", {{"path", path}});
  }
}

absl::Status Daemon::Apply(std::shared_ptr<const Settings> settings) {
  // The upstream's part is the one that can still fail (files, addresses): it
  // goes first, and is all or nothing itself. Until it is through, a target
  // that comes sees nothing of what may be refused.
  absl::Status status = upstream_->Reconfigure(UpstreamOptionsOf(settings));
  if (!status.ok()) return status;
  current_.set(settings);
  pool::PoolConfig pool_config = settings->pool;
  pool_config.instance = instance_;
  pool_->Reconfigure(pool_config, MonotonicNow());
  broker_->Reconfigure(BrokerSettingsOf(*settings));
  SetLogLevel(settings->log_level);
  SetLogFormat(settings->log_format);
  warm_->Configure(*settings);
  for (const auto& [target, target_settings] : settings->targets) {
    if (target_settings.pool.warm > 0) pool_->Warm(target, MonotonicNow());
  }
  const std::vector<std::string> waiting =
      WaitingForStart(*started_, *settings);
  restart_needed_ = !waiting.empty();
  if (restart_needed_) {
    HOTLINE_LOG(kWarning,
                "the file differs from what the process was started with, in "
                "keys that take effect at the next start only",
                {{"keys", absl::StrJoin(waiting, ", ")}});
    std::vector<std::string> unused;
    if (absl::Status start = CheckStart(settings, &unused); !start.ok()) {
      HOTLINE_LOG(kError, "the next start would fail",
                  {{"error", start.message()}});
    }
  }
  return absl::OkStatus();
}

void Daemon::Reload() {
  if (config_path_.empty()) {
    HOTLINE_LOG(kWarning, "nothing to reload: started without --config");
    return;
  }
  stamp_ = StampOf(config_path_);
  auto loaded = LoadConfig(config_path_, /*cores=*/0, UpstreamChecks());
  absl::Status status = loaded.status();
  if (status.ok()) {
    auto settings = std::make_shared<const Settings>(*std::move(loaded));
    for (const std::string& warning : settings->warnings) {
      HOTLINE_LOG(kWarning, warning);
    }
    status = Apply(std::move(settings));
  }
  config_ok_ = status.ok();
  if (status.ok()) {
    HOTLINE_LOG(kInfo, "configuration reloaded", {{"path", config_path_}});
  } else {
    HOTLINE_LOG(kError, "configuration refused: the one before stays in force",
                {{"error", status.message()}});
  }
}

void Daemon::TrimMemory() {
  constexpr int64_t kMuch = 16 << 20;
  AnswerMemory& answers = broker_->answers();
  answers_peak_ = std::max(answers_peak_, answers.TakePeak());
  if (answers_peak_ < kMuch || answers.used() > answers_peak_ / 2) return;
  // What many large answers took would stay the allocator's. Not all of it is
  // free yet when half of them are: each look that follows expects less.
  malloc_trim(0);
  answers_peak_ /= 2;
}

void Daemon::RefreshTlsFiles() {
  const auto changed = upstream_->RefreshTlsFiles();
  tls_files_ok_ = changed.ok();
  const std::string error(changed.status().message());
  if (error != tls_files_error_ && !error.empty()) {
    HOTLINE_LOG(kError, "TLS files refused: those before stay in use",
                {{"error", error}});
  } else if (changed.ok() && (*changed || !tls_files_error_.empty())) {
    HOTLINE_LOG(kInfo, "TLS files read anew");
  }
  tls_files_error_ = error;
}

void Daemon::RefreshCertificates() {
  if (certificates_ == nullptr) return;
  const absl::StatusOr<bool> changed = certificates_->Refresh();
  if (!changed.ok()) {
    static LogLimiter limiter(std::chrono::seconds(60));
    HOTLINE_LOG_LIMITED(limiter, kError,
                        "certificates refused: the ones before stay in force",
                        {{"error", changed.status().message()}});
  } else if (*changed) {
    HOTLINE_LOG(kInfo, "certificates reloaded");
  }
}

void Daemon::ServeUntilSignalled(const sigset_t& signals) {
  // Often enough for a changed file to be noticed like a signal.
  const timespec look_at_file = {.tv_sec = 1, .tv_nsec = 0};
  for (;;) {
    const int signal = sigtimedwait(&signals, nullptr, &look_at_file);
    if (signal == SIGTERM || signal == SIGINT) {
      HOTLINE_LOG(kInfo, "draining", {{"signal", strsignal(signal)}});
      return;
    }
    if (signal == SIGHUP || !(StampOf(config_path_) == stamp_)) Reload();
    RefreshTlsFiles();
    TrimMemory();
    warm_->Save(MonotonicNow());
    RefreshCertificates();
  }
}

void Daemon::Drain(const sigset_t& signals) {
  draining_ = true;
  grpc_->SetServing(false);
  warm_->StartDrain();
  warm_->Save(MonotonicNow(), /*now_anyway=*/true);
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
  // The answers to those calls still have to leave.
  grpc_->Stop(std::chrono::seconds(2));
  HOTLINE_LOG(kInfo, "stopped");
}

// From the outside in; callbacks of each still find what they need.
void Daemon::Stop() {
  if (warm_ != nullptr) warm_->StartDrain();
  if (grpc_ != nullptr) grpc_->Stop(Duration(0));
  http_ = nullptr;
  if (upstream_ != nullptr) upstream_->Stop();
}

// Each upstream connection is a descriptor: use all that we may have.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int Serve(std::string config_path, std::shared_ptr<const Settings> settings) {
  // Blocked before the first thread is made, so that only the main thread ever
  // sees them.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  RaiseDescriptorLimit();

  SetLogLevel(settings->log_level);
  SetLogFormat(settings->log_format);
  FlushLogOnCrash();
  TakeLibraryLogs();
  std::vector<std::string> warnings = settings->warnings;
  absl::Status status = CheckStart(settings, &warnings);
  for (const std::string& warning : warnings) HOTLINE_LOG(kWarning, warning);
  Daemon daemon(std::move(config_path), std::move(settings));
  if (status.ok()) status = daemon.Start();
  if (!status.ok()) {
    HOTLINE_LOG(kError, "cannot start", {{"error", status.message()}});
    return kExitFailure;
  }
  daemon.ServeUntilSignalled(signals);
  daemon.Drain(signals);
  return kExitOk;
}

int Check(const std::shared_ptr<const Settings>& settings) {
  std::vector<std::string> warnings = settings->warnings;
  const absl::Status status = CheckStart(settings, &warnings);
  for (const std::string& warning : warnings) {
    std::fprintf(stderr, "%s\n", warning.c_str());
  }
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return kExitFailure;
  }
  std::fputs(settings->effective_yaml.c_str(), stdout);
  return kExitOk;
}

int Main(int argc, char** argv) {
  // The distribution's Abseil looks for lock cycles on every lock that gRPC
  // takes: some percent of a call's time, for a tool of developers.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  CLI::App app{
      "hotlined keeps connections to upstream servers hot and lends them out "
      "over gRPC.",
      "hotlined"};
  app.footer(
      "Signals: SIGTERM and SIGINT drain and exit (a second one at once);\n"
      "SIGHUP reloads the configuration, as does a change of the file.\n"
      "Exit codes: 0 stopped or valid, 1 could not start or invalid, 2 usage.");
  std::string config_path;
  bool check_only = false;
  app.add_option("--config", config_path,
                 "YAML configuration (default: none; every key has a default)")
      ->type_name("FILE");
  app.add_flag(
      "--check-config", check_only,
      "check the configuration, print it with every default, and exit");
  app.set_version_flag("--version", absl::StrCat("hotlined ", kVersion));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }

  absl::StatusOr<Settings> loaded =
      config_path.empty()
          ? DefaultSettings()
          : LoadConfig(config_path, /*cores=*/0, UpstreamChecks());
  if (!loaded.ok()) {
    const std::string message(loaded.status().message());
    std::fprintf(stderr, "%s\n", message.c_str());
    return kExitFailure;
  }
  auto settings = std::make_shared<const Settings>(*std::move(loaded));
  return check_only ? Check(settings) : Serve(config_path, std::move(settings));
}

}  // namespace
}  // namespace hotline::server

int main(int argc, char** argv) { return hotline::server::Main(argc, argv); }
