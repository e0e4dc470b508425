// One running hotlined: makes the rooms, wires them together, reloads, hands
// over, drains.
//
//   Daemon daemon(config_path, settings, takeover_path);
//   if (!daemon.Start().ok()) return kExitFailure;
//   daemon.ServeUntilSignalled(signals);  // SIGTERM and SIGINT end it.
//   daemon.Drain(signals);
//
// Taking over from another process, and handing over to one, is in
// daemon_takeover.cc; takeover.h has the protocol.
//
// The only class that knows all the rooms. The thread that calls it carries no
// traffic; it reloads, saves the warm set and looks at files once a second.
//
// Thread safety: one thread. The callbacks that it gives to the rooms come from
// any thread and use only what is made before them and atomics.
#ifndef HOTLINE_SERVER_DAEMON_DAEMON_H_
#define HOTLINE_SERVER_DAEMON_DAEMON_H_

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/file_stamp.h"
#include "base/mutex.h"
#include "pool/pool.h"
#include "server/admin/admin.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"
#include "server/broker/event_log.h"
#include "server/config/config.h"
#include "server/daemon/log_levels.h"
#include "server/daemon/reload_requests.h"
#include "server/daemon/successor.h"
#include "server/daemon/takeover.h"
#include "server/daemon/warm_keeper.h"
#include "server/front/certificates.h"
#include "server/front/front.h"
#include "server/observe/admin_http.h"
#include "server/observe/metrics.h"
#include "server/observe/span_exporter.h"
#include "upstream/upstream.h"

namespace hotline::server {

class AdminService;
struct AdminHooks;

// The settings in force: replaced as a whole by a reload, read by any thread.
class CurrentSettings {
 public:
  explicit CurrentSettings(std::shared_ptr<const Settings> settings)
      : settings_(std::move(settings)) {}

  std::shared_ptr<const Settings> get() const {
    MutexLock lock(&mu_);
    return settings_;
  }
  // `applied`: where an operator's came from; empty: they are the file's.
  void set(std::shared_ptr<const Settings> settings, std::string applied) {
    MutexLock lock(&mu_);
    settings_ = std::move(settings);
    applied_ = std::move(applied);
    loaded_ = std::chrono::system_clock::now();
  }
  std::string applied() const {
    MutexLock lock(&mu_);
    return applied_;
  }

  // When they were set.
  std::chrono::system_clock::time_point loaded() const {
    MutexLock lock(&mu_);
    return loaded_;
  }
  // Of the latest reload; empty: it was used.
  void set_last_error(std::string error) {
    MutexLock lock(&mu_);
    last_error_ = std::move(error);
  }
  std::string last_error() const {
    MutexLock lock(&mu_);
    return last_error_;
  }

 private:
  mutable Mutex mu_;
  std::shared_ptr<const Settings> settings_ ABSL_GUARDED_BY(mu_);
  std::chrono::system_clock::time_point loaded_ ABSL_GUARDED_BY(mu_) =
      std::chrono::system_clock::now();
  std::string last_error_ ABSL_GUARDED_BY(mu_);
  std::string applied_ ABSL_GUARDED_BY(mu_);
};

class Daemon {
 public:
  // `config_path` is read again by reloads; empty: none is possible.
  // `takeover_path`: of the socket over which this process takes over from the
  // one before, and hands over to the next; empty: neither.
  Daemon(std::string config_path, std::shared_ptr<const Settings> settings,
         std::string takeover_path = "");
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Returns when every listener accepts, and a process before this one has
  // stopped accepting. Errors: those of the rooms, with the file or address
  // that cannot be used; those of a takeover; CANCELLED if SIGTERM or SIGINT
  // arrives while it warms up for one.
  absl::Status Start();

  // Returns at SIGTERM or SIGINT, and after a hand-over. SIGHUP and a changed
  // file reload; SIGUSR2 starts a process that takes over. `signals` are these
  // four, blocked in every thread.
  void ServeUntilSignalled(const sigset_t& signals);

  // Refuses new work, waits for calls and leases for shutdown_grace (a second
  // signal ends the wait), then aborts what is left. After a hand-over: serves
  // callers until they have gone to the other process, for as long at most.
  void Drain(const sigset_t& signals);

 private:
  void StartPool(const Settings& settings);
  void StartWarming(const Settings& settings);
  // A warm floor's health has changed.
  void NoteWarm(const std::string& service, bool reached);
  // Adds an event of the process.
  void Note(v1::EventKind kind, std::string_view reason, std::string text = "");
  // Dials the warm floors of the targets in the file.
  void WarmTargets(const Settings& settings);
  absl::Status StartFront(const Settings& settings);
  absl::Status StartHttp(const Settings& settings);
  absl::Status StartAdmin(const Settings& settings);
  AdminHooks MakeAdminHooks();
  std::unique_ptr<Metrics> MakeMetrics(const Settings& settings);
  // The broker's settings, recording calls as `settings` asks.
  BrokerSettings BrokerSettingsOf(const Settings& settings);
  void SetServing(bool serving);
  // Says what SetServing last said, or not serving while an operator has
  // drained the broker.
  void ShowServing();
  void WritePorts() const;
  // Waits until `drained`, until `end` or until a second signal.
  static void AwaitDrained(const sigset_t& signals, Instant end,
                           absl::FunctionRef<bool()> drained);
  void Stop();

  // --- Takeover, as the new process ---
  absl::Status FindPredecessor();
  // Waits, for `patience` at most, until what the other process had warm is.
  absl::Status AwaitWarm(Duration patience);
  // Every listener accepts: makes the other process drain.
  absl::Status TakeCharge();
  void SetOwnsFiles(bool owns);
  // --- Takeover, as the old process ---
  // Waits for a signal or a taker, for a second at most; 0: no signal.
  int AwaitSignal(const sigset_t& signals) const;
  void StartSuccessor();
  // Lets takers have their say. True: one of them serves, and this process
  // accepts no more connections.
  bool HandOverIfTaken();
  HandOver Offer() const;
  // Serves callers until they have gone, or until `end`.
  void AwaitGoneCallers(const sigset_t& signals, Instant end);

  absl::Status Reload();
  absl::Status LoadAndApply();
  absl::Status Apply(std::shared_ptr<const Settings> settings,
                     std::string applied = "");
  absl::Status Use(const ReloadRequests::Update& update);
  void ReportKeysOfStart(const std::shared_ptr<const Settings>& settings);
  // Ends a log level that was set for a while.
  void RestoreLogLevel();
  // Returns freed memory to the system after large answers.
  void TrimMemory();
  void RefreshTlsFiles();
  void RefreshCertificates();

  const std::string config_path_;
  const std::string takeover_path_;
  FileStamp stamp_;  // Of the file as last loaded.
  const std::shared_ptr<const Settings> started_;
  CurrentSettings current_;
  const uint32_t instance_;  // In lease ids.
  std::atomic<bool> draining_{false};
  std::atomic<bool> handed_over_{false};
  std::atomic<bool> config_ok_{true};
  std::atomic<bool> restart_needed_{false};
  std::atomic<bool> tls_files_ok_{true};
  std::string tls_files_error_;  // As last logged; empty without one.
  ReloadRequests reloads_;
  LogLevels log_levels_;
  Mutex serving_mu_;
  // True between the start's end and the drain's beginning.
  bool serving_ ABSL_GUARDED_BY(serving_mu_) = false;
  int64_t answers_peak_ = 0;  // Since the last trim.

  std::unique_ptr<InheritedSockets> inherited_;  // During the start.
  std::unique_ptr<Predecessor> predecessor_;     // The same. Null: none.
  std::unique_ptr<TakeoverServer> takeover_;     // Null: off, or over.
  Successor successor_;

  // In the order in which they are made: each uses only those above it.
  RpcMetrics rpc_metrics_;
  CallMetrics call_metrics_;
  SpanExporter spans_;
  EventLog events_;
  IdentityTable identities_;
  std::unique_ptr<Certificates> certificates_;
  std::unique_ptr<upstream::Upstream> upstream_;
  std::unique_ptr<pool::Pool> pool_;
  std::unique_ptr<WarmKeeper> warm_;
  std::unique_ptr<Broker> broker_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<AdminHttp> http_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<Admin> admin_;  // Null: off.
  std::unique_ptr<Front> front_;
  // front_, for the HTTP listener's thread; null until it is made.
  std::atomic<const Front*> front_now_{nullptr};
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_DAEMON_H_
