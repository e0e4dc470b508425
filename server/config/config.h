// The configuration: one YAML file, checked strictly against
// hotline/v1/config.proto and resolved into the rooms' options with every
// default applied.
//
//   auto settings = LoadConfig("hotline.yaml");
//   if (!settings.ok()) std::cerr << settings.status().message();
//   // hotline.yaml:7:3: pool.max_conections: unknown key (did you mean
//   // max_connections?)
//
// Steps: YAML text -> YamlNode (yaml.h) -> v1::Config (proto.h, outside.h) ->
// bounds and defaults of single keys (rules.h) -> Settings (front.h, target.h,
// tls.h, upstream.h: one for each part of the file).
//
// 1. A file is used as a whole or not at all. Errors list every fault, twenty
//    at most, one per line, each with its line, column, key and the accepted
//    values. A faulty key has its default in later steps, and what follows from
//    it is not a fault of its own.
// 2. Input is bounded: 1 MiB, 16 levels, 100 000 values. Anchors, aliases and
//    tags are refused, so that no value can expand; a reference gives at most
//    64 KiB, of text only.
// 3. Parsing effective_yaml gives the same settings again.
// 4. A value that a reference takes from a file may be a secret: faults,
//    effective_yaml and DiffConfigs show the reference in its place.
//
// All functions are pure except LoadConfig and LookUpOutside, which read files
// and the environment, and the ConfigChecks. Thread safety: Settings is a plain
// value.
#ifndef HOTLINE_SERVER_CONFIG_CONFIG_H_
#define HOTLINE_SERVER_CONFIG_CONFIG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/log.h"
#include "base/time.h"
#include "net/tls/tls_profile.h"
#include "pool/types.h"
#include "server/admin/options.h"
#include "server/broker/options.h"
#include "server/front/options.h"
#include "server/observe/options.h"
#include "upstream/options.h"

namespace hotline::server {

struct EffectiveConfig;  // In print.h.

// How one target is treated.
struct TargetSettings {
  pool::TargetConfig pool;
  upstream::TargetPolicy upstream;
  CoolDownSettings cool_down;
  // The process is not ready before the target's `warm` connections are.
  bool ready_when_warm = false;

  friend bool operator==(const TargetSettings&,
                         const TargetSettings&) = default;
};

// The warm set: see server/daemon/warm_set.h.
struct RewarmSettings {
  std::string file;  // Empty: no warm set is kept.
  Duration interval{0};
  int dials_per_second = 0;
  Duration patience{0};
  bool ready_when_warm = false;

  friend bool operator==(const RewarmSettings&,
                         const RewarmSettings&) = default;
};

// The rooms' own options, filled from the file and its defaults. A limit of 0
// that config.proto derives from the machine is still 0 here: server/daemon
// fills it in.
struct Settings {
  FrontOptions front;
  // "127.0.0.1:9464"; empty: no HTTP.
  std::string http_listen;
  AdminOptions admin;
  BrokerSettings broker;
  // The rules that broker.policy is compiled from.
  PolicyRules policy;
  // `instance` and `seed` are left to server/daemon.
  pool::PoolConfig pool;
  // `target_policy` is left out: see UpstreamOptions.
  upstream::Options upstream;

  TargetSettings default_target;
  // By canonical target ("https://host:port").
  std::map<std::string, TargetSettings, std::less<>> targets;
  RewarmSettings rewarm;

  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  AccessLogOptions access_log;
  TracingOptions tracing;
  int metrics_max_targets = 0;
  Duration shutdown_grace{0};

  // Valid but probably unintended: "FILE:LINE:COLUMN: path: text", for the log.
  std::vector<std::string> warnings;
  // The whole configuration with every default, as YAML that parses to the
  // same settings.
  std::string effective_yaml;
  // The same for DiffConfigs.
  std::shared_ptr<const EffectiveConfig> effective;

  // The settings of `target` (canonical), or of its OtherSpelling; else the
  // defaults.
  const TargetSettings& ForTarget(std::string_view target) const;
  // The pool's part, completed from the target's scheme. Only a target that is
  // configured in this spelling has a warm floor.
  pool::TargetConfig PoolFor(std::string_view target) const;
};

// Names of TLS profiles that need no definition.
inline constexpr std::string_view kBuiltInTlsProfiles[] = {
    "default", "modern", "compatible", "chromium"};

// A fault, or only a warning, of the key at `path`; without a path, of the
// whole configuration.
struct KeyFault {
  std::string path;
  std::string text;
  bool warning = false;
};

// What a reference in the file stands for: "NAME" of "${NAME}", "file:/path" of
// "${file:/path}".
using ConfigLookup =
    std::function<absl::StatusOr<std::string>(const std::string& reference)>;

// The environment variable; or the content of the file, which must be a regular
// one of 64 KiB at most, without the line break at its end.
//
// Errors: with the name of the variable or file.
absl::StatusOr<std::string> LookUpOutside(const std::string& reference);

// What this room does not see. Null: skipped.
struct ConfigChecks {
  // net::CheckTlsProfile; ca_file is empty in a profile without one.
  std::function<std::vector<net::TlsFault>(const net::TlsProfile&)> tls_profile;
  // What the machine lacks. Keys that have a fault have their default here.
  // Faults of the whole configuration are dropped if there are others.
  std::function<std::vector<KeyFault>(const Settings&)> machine;
  // Null: references are faults, but LoadConfig uses LookUpOutside.
  ConfigLookup lookup;
};

// Checks and resolves `yaml`; errors call it `name`. `cores`: the number that
// defaults are derived from; 0: this machine's.
//
// Errors: INVALID_ARGUMENT with the faults, one per line.
absl::StatusOr<Settings> ParseConfig(std::string_view yaml,
                                     std::string_view name, int cores = 0,
                                     const ConfigChecks& checks = {});

// The same for a file. Errors also: NOT_FOUND and such when it cannot be read.
absl::StatusOr<Settings> LoadConfig(const std::string& path, int cores = 0,
                                    const ConfigChecks& checks = {});

// The keys that take effect only at a start and whose values in `now` differ
// from those that the process was started with.
std::vector<std::string> WaitingForStart(const Settings& started,
                                         const Settings& now);

// A value that differs between two configurations, in YAML; empty on the side
// that does not have it. Both are equal if the value is from a file, which is
// not shown.
struct ConfigChange {
  // "pool.max_connections", "targets[https://a.example:443].warm",
  // "tls_profiles[pinned].ciphers", "policy.rules[0].rpcs".
  std::string key;
  std::string before;
  std::string after;
  // Takes effect at a start only: see WaitingForStart.
  bool needs_restart = false;

  friend bool operator==(const ConfigChange&, const ConfigChange&) = default;
};

// Every difference, defaults included, ordered by key.
std::vector<ConfigChange> DiffConfigs(const Settings& before,
                                      const Settings& after);

// The settings without a file.
Settings DefaultSettings(int cores = 0);

// settings->upstream, with a target_policy that looks targets up in `settings`
// and keeps it alive.
upstream::Options UpstreamOptions(std::shared_ptr<const Settings> settings);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_CONFIG_H_
