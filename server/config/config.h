// The configuration: one YAML file, checked strictly against
// hotline/v1/config.proto, made into plain values with every default applied.
//
// A file is refused as a whole, with every fault in it (twenty at most), one
// per line, each with its place and what would have been right:
//
//   hotline.yaml:7: pool.max_conections: unknown key (did you mean
//   max_connections?)
//
// Bounds: 1 MiB, 16 levels, 100 000 values; anchors, aliases and tags are
// refused, so nothing can expand.
//
// Everything here is a pure function but LoadConfig, which reads one file; and
// what ConfigChecks do.
#ifndef HOTLINE_SERVER_CONFIG_CONFIG_H_
#define HOTLINE_SERVER_CONFIG_CONFIG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/log.h"
#include "base/time.h"
#include "pool/types.h"
#include "server/broker/options.h"

namespace hotline::server {

// A request that shows whether a connection works: upstream::Check, in words
// that this room may say.
struct CheckSettings {
  std::string path;  // Empty: no such check.
  std::string method = "HEAD";
  int min_status = 0;  // 0 and 0: any complete answer will do.
  int max_status = 0;

  friend bool operator==(const CheckSettings&, const CheckSettings&) = default;
};

// net::TlsProfile, in words that this room may say: see config.proto.
struct TlsProfileSettings {
  std::string name;
  std::string min_version;
  std::string max_version;
  std::vector<std::string> ciphers;
  std::vector<std::string> groups;
  std::vector<std::string> signature_algorithms;
  std::vector<std::string> alpn;
  bool grease = false;
  bool permute_extensions = false;
  std::vector<std::string> certificate_compression;
  std::vector<std::string> extra_extensions;
  bool session_tickets = true;
  std::string cert_file;
  std::string key_file;
  std::string ca_file;  // Empty: upstream.ca_file.
  std::vector<std::string> pins;
  bool allow_weak_certificates = false;

  friend bool operator==(const TlsProfileSettings&,
                         const TlsProfileSettings&) = default;
};

// How one target is treated.
struct TargetSettings {
  pool::TargetConfig pool;
  CheckSettings validate;            // Of each new connection.
  CheckSettings probe{.path = "/"};  // Of an idle one.
  bool probe_tcp_only = false;
  // The file names a path or a status, rather than leaving it to us.
  bool probe_is_asked_for = false;
  bool ready_when_warm = false;
  // Names; one for each new connection, in turn. Empty: upstream.tls_profile.
  std::vector<std::string> tls_profiles;
  std::string proxy;  // "http://host:port"; empty: none.
  CoolDownSettings cool_down;

  friend bool operator==(const TargetSettings&,
                         const TargetSettings&) = default;
};

// upstream::Options and upstream::EgressRules.
struct UpstreamSettings {
  int loops = 1;
  std::string ca_file;  // Empty: the system's authorities.
  Duration connect_timeout{0};
  Duration tcp_timeout{0};
  Duration tls_timeout{0};
  Duration probe_timeout{0};
  Duration ping_after{0};
  Duration ping_timeout{0};
  int64_t max_header_bytes = 0;
  std::vector<std::string> dns_servers;
  int eject_after = 0;
  Duration eject_base{0};
  Duration eject_max{0};
  Duration address_grace{0};
  Duration attempt_stagger{0};
  std::vector<std::string> source_addresses;
  bool egress_default_public = true;
  std::vector<std::string> egress_allow;
  std::vector<std::string> egress_deny;
  std::string tls_profile;
  std::vector<TlsProfileSettings> tls_profiles;  // Beside the built-in ones.
  int max_tls_sessions = 0;
  Duration tls_session_lifetime{0};

  friend bool operator==(const UpstreamSettings&,
                         const UpstreamSettings&) = default;
};

struct ExecuteSettings {
  Duration default_deadline{0};
  int64_t max_body_bytes = 0;
  int max_attempts = 0;
  int retry_budget_percent = 0;
  bool forward_traceparent = false;

  friend bool operator==(const ExecuteSettings&,
                         const ExecuteSettings&) = default;
};

struct RewarmSettings {
  std::string file;  // Empty: not at all.
  Duration interval{0};
  int dials_per_second = 0;
  Duration patience{0};
  bool ready_when_warm = false;

  friend bool operator==(const RewarmSettings&,
                         const RewarmSettings&) = default;
};

// server::SessionLimits.
struct SessionSettings {
  int max_items_per_message = 0;
  int max_items_in_flight = 0;
  int max_leases = 0;
  int64_t max_buffered_bytes = 0;

  friend bool operator==(const SessionSettings&,
                         const SessionSettings&) = default;
};

// The front door: GrpcServerOptions, in words that this room may say.
struct ListenSettings {
  // All empty, or none.
  std::string cert_file;
  std::string key_file;
  std::string client_ca_file;
  std::vector<uint32_t> allowed_uids;
  std::vector<uint32_t> allowed_gids;
  int max_connections = 0;  // 0: from the limit on descriptors.
  int max_connections_per_peer = 0;
  Duration handshake_timeout{0};
  int max_resets_per_second = 0;

  friend bool operator==(const ListenSettings&,
                         const ListenSettings&) = default;
};

struct Settings {
  // "127.0.0.1:50051", "[::1]:50051", "unix:///path": as in the file.
  std::vector<std::string> grpc_listen;
  // "127.0.0.1:9464"; empty: no HTTP.
  std::string http_listen;
  ListenSettings listen;

  // `instance` and `seed` are left for main to draw.
  pool::PoolConfig pool;
  TargetSettings default_target;
  // By canonical target ("https://host:port").
  std::map<std::string, TargetSettings, std::less<>> targets;
  UpstreamSettings upstream;
  ExecuteSettings execute;
  RewarmSettings rewarm;
  SessionSettings session;

  PolicyRules policy;
  int64_t overload_max_memory_bytes = 0;  // 0: from the memory cgroup.
  int overload_max_calls = 0;
  int64_t overload_max_answer_bytes = 0;  // 0: from max_memory_bytes.

  Duration lease_ttl{0};
  Duration max_lease_ttl{0};
  Duration tunnel_idle_timeout{0};
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  int metrics_max_targets = 0;
  Duration shutdown_grace{0};

  // What is allowed but probably not meant: "FILE:LINE: path: text", to be
  // logged once.
  std::vector<std::string> warnings;
  // The whole configuration with every default, as YAML that ParseConfig
  // accepts and that gives the same settings.
  std::string effective_yaml;

  // Those of `target` (canonical), or of its OtherSpelling; else the default
  // ones.
  const TargetSettings& ForTarget(std::string_view target) const;
  // The pool's part of them, with what the target's scheme says. Only a target
  // that is configured in this spelling has a warm floor.
  pool::TargetConfig PoolFor(std::string_view target) const;
};

// Names of TLS profiles that need no definition.
inline constexpr std::string_view kBuiltInTlsProfiles[] = {
    "default", "modern", "compatible", "chromium"};

// What is wrong with one key's value; `key` below what was checked
// ("ciphers[2]"), or empty for all of it.
struct KeyFault {
  std::string key;
  std::string text;
};

// Checks that need what this room does not have. Null: not made.
struct ConfigChecks {
  // Of a profile's values and files; its ca_file is empty where it has none.
  std::function<std::vector<KeyFault>(const TlsProfileSettings&)> tls_profile;
};

// Checks and resolves `yaml`; `name` is what errors call it. `cores` is what
// "from the number of cores" means; 0: this machine's.
//
// Errors: INVALID_ARGUMENT with the faults, one per line.
absl::StatusOr<Settings> ParseConfig(std::string_view yaml,
                                     std::string_view name, int cores = 0,
                                     const ConfigChecks& checks = {});

// The same for a file. Errors also: NOT_FOUND and such when it cannot be read.
absl::StatusOr<Settings> LoadConfig(const std::string& path, int cores = 0,
                                    const ConfigChecks& checks = {});

// The keys that take effect at a start only, and say something else in `now`
// than in what the process was started with.
std::vector<std::string> WaitingForStart(const Settings& started,
                                         const Settings& now);

// What holds without a file: ParseConfig of nothing.
Settings DefaultSettings(int cores = 0);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_CONFIG_H_
