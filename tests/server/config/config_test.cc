#include "server/config/config.h"

#include <algorithm>
#include <concepts>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "hotline/v1/config.pb.h"
#include "server/config/rules.h"
#include "server/config/values.h"
#include "tests/fakes/rows.h"

namespace hotline::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr char kTarget[] = "https://a.example:443";
Settings Parse(const std::string& yaml) {
  auto settings = ParseConfig(yaml, "t.yaml", 2);
  EXPECT_TRUE(settings.ok()) << yaml << "\n" << settings.status();
  return settings.ok() ? *std::move(settings) : Settings{};
}

// Any complete answer passes.
upstream::Check Probe(const std::string& path) {
  return {.path = path, .min_status = 0, .max_status = 0};
}

std::string Fault(const std::string& yaml) {
  const auto settings = ParseConfig(yaml, "t.yaml", 2);
  if (settings.ok()) return "accepted";
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(settings.status().message());
}

TEST(ConfigTest, RawTargetsHaveNoHttpChecks) {
  for (const char* wrong : {"validate: {path: /}", "probe: {path: /}"}) {
    const auto refused = ParseConfig(
        absl::StrCat("targets: [{target: 'tcp://h:1', ", wrong, "}]"), "t");
    ASSERT_FALSE(refused.ok()) << wrong;
    EXPECT_NE(refused.status().message().find("only with https and http"),
              absl::string_view::npos)
        << refused.status();
  }
  const auto fine = ParseConfig(
      "targets: [{target: 'TLS://H:1', max_connections: 3,"
      " probe: {kind: none}}]",
      "t");
  ASSERT_TRUE(fine.ok()) << fine.status();
  EXPECT_EQ(fine->PoolFor("tls://h:1").max_connections, 3);
  EXPECT_EQ(fine->PoolFor("tls://h:1").expected_streams, 1);
}

TEST(ConfigTest, ProtocolIsUnknownWhereTheUpstreamChoosesIt) {
  const Settings s = DefaultSettings(2);
  EXPECT_EQ(s.PoolFor("https://a.example:443").expected_streams, 0);
  EXPECT_EQ(s.PoolFor("http://a.example:80").expected_streams, 1);
  EXPECT_EQ(s.PoolFor("https://a.example:443").max_connections, 10);
}

TEST(ConfigTest, ProbeIsChosenForTheProtocolUnlessConfigured) {
  const auto asked = [](const std::string& probe) {
    const auto s = ParseConfig(
        "targets: [{target: 'https://a.example', probe: " + probe + "}]", "t");
    return s.ok() && s->ForTarget(kTarget).upstream.probe_is_asked_for;
  };
  EXPECT_FALSE(DefaultSettings(2).default_target.upstream.probe_is_asked_for);
  EXPECT_FALSE(asked("{}"));
  EXPECT_FALSE(asked("{kind: http}"));
  EXPECT_TRUE(asked("{kind: http, path: /}"));
  EXPECT_TRUE(asked("{max_status: 299}"));
}

TEST(ConfigTest, UnusedListenerTlsIsWarnedAbout) {
  const Settings s =
      Parse("listen:\n  tls: {cert_file: c, key_file: k, client_ca_file: a}\n");
  ASSERT_EQ(s.warnings.size(), 1u);
  EXPECT_EQ(
      s.warnings[0],
      "t.yaml:2:3: listen.tls: is not used: every listener is loopback or "
      "a Unix socket, which are served without TLS");
}

// What a key has set, as text.

std::string Show(const std::string& text) { return text; }
std::string Show(bool value) { return value ? "true" : "false"; }
std::string Show(Duration value) {
  return absl::StrCat(std::chrono::duration<double>(value).count(), "s");
}
template <std::integral Number>
std::string Show(Number value) {
  return absl::StrCat(value);
}
template <typename T>
std::string Show(const std::vector<T>& values) {
  return absl::StrJoin(values, " ");
}
std::string Show(const upstream::Check& check) {
  return absl::StrCat(check.method, " ", check.path, " ", check.min_status,
                      " to ", check.max_status);
}
std::string Show(const CoolDownSettings& cool_down) {
  return absl::StrCat(Show(cool_down.statuses), " for ", Show(cool_down.length),
                      " to ", Show(cool_down.max_length),
                      cool_down.retry_after ? " or Retry-After" : "");
}
std::string WithDefault(int value, int others) {
  return absl::StrCat(value, ", others ", others);
}
std::string ProbeKind(const TargetSettings& target) {
  return absl::StrCat(target.pool.probe == pool::ProbeKind::kTcp ? "tcp" : "",
                      target.upstream.probe_tcp_only ? " only" : "");
}

// By key.
using Values = std::map<std::string, std::string>;

Values FrontValues(const Settings& s) {
  const PolicyRule rule =
      s.policy.rules.empty() ? PolicyRule() : s.policy.rules[0];
  return {
      {"listen.grpc", Show(s.front.door.addresses)},
      {"listen.http", Show(s.http_listen)},
      {"listen.admin", Show(s.admin.address)},
      {"listen.insecure", Show(s.front.door.addresses)},
      {"listen.tls.cert_file", Show(s.front.tls.cert_file)},
      {"listen.tls.key_file", Show(s.front.tls.key_file)},
      {"listen.tls.client_ca_file", Show(s.front.tls.client_ca_file)},
      {"listen.allowed_uids", Show(s.front.door.allowed_uids)},
      {"listen.allowed_gids", Show(s.front.door.allowed_gids)},
      {"listen.max_connections", Show(s.front.door.max_connections)},
      {"listen.max_connections_per_peer",
       Show(s.front.door.max_connections_per_peer)},
      {"listen.handshake_timeout", Show(s.front.handshake_timeout)},
      {"listen.max_resets_per_second", Show(s.front.max_resets_per_second)},
      {"policy.default", s.policy.allow_by_default ? "allow" : "deny"},
      {"policy.rules.identities", Show(rule.identities)},
      {"policy.rules.targets", Show(rule.targets)},
      {"policy.rules.snis", Show(rule.snis)},
      {"policy.rules.remote_ips", Show(rule.remote_ips)},
      {"policy.rules.rpcs", Show(rule.rpcs.size())},
      {"policy.rules.max_leases", Show(rule.quota.max_leases)},
      {"policy.rules.max_waiters", Show(rule.quota.max_waiters)},
      {"policy.rules.requests_per_second",
       Show(rule.quota.requests_per_second)},
      {"policy.rules.all_leases", Show(rule.all_leases)},
  };
}

Values TargetValues(const Settings& s) {
  const TargetSettings& target = s.ForTarget(kTarget);
  const TargetSettings& others = s.default_target;
  return {
      {"pool.max_connections_per_target", Show(target.pool.max_connections)},
      {"pool.max_waiters_per_target", Show(target.pool.max_waiters)},
      {"pool.max_dials_per_target", Show(target.pool.max_dials)},
      {"pool.idle_timeout", Show(target.pool.idle_timeout)},
      {"pool.max_lifetime", Show(target.pool.max_lifetime)},
      {"pool.check_interval", Show(target.pool.check_interval)},
      {"pool.max_errors", Show(target.pool.max_errors)},
      {"pool.max_streams_per_connection", Show(target.pool.max_streams)},
      {"targets.proxy", Show(target.upstream.proxy)},
      {"targets.target", Show(s.targets.count(kTarget))},
      {"targets.max_connections",
       WithDefault(target.pool.max_connections, others.pool.max_connections)},
      {"targets.max_waiters", Show(target.pool.max_waiters)},
      {"targets.warm_max",
       absl::StrCat(target.pool.warm, " to ", target.pool.warm_max)},
      {"targets.deadline_admission", Show(target.pool.deadline_admission)},
      {"targets.ready_when_warm", Show(target.ready_when_warm)},
      {"pool.breaker_failures", Show(target.pool.breaker_failures)},
      {"pool.breaker_open_for", Show(target.pool.breaker_open_for)},
      {"pool.desync_limit", Show(target.pool.desync_limit)},
      {"targets.desync_limit",
       WithDefault(target.pool.desync_limit, others.pool.desync_limit)},
      {"targets.breaker_failures",
       WithDefault(target.pool.breaker_failures, others.pool.breaker_failures)},
      {"targets.breaker_open_for", Show(target.pool.breaker_open_for)},
      {"targets.warm", Show(target.pool.warm)},
      {"targets.validate.path", Show(target.upstream.validate)},
      {"targets.validate.method", Show(target.upstream.validate.method)},
      {"targets.validate.min_status",
       Show(target.upstream.validate.min_status)},
      {"targets.validate.max_status",
       Show(target.upstream.validate.max_status)},
      {"targets.probe.kind", ProbeKind(target)},
      {"targets.probe.path",
       absl::StrCat(Show(target.upstream.probe), " asked ",
                    Show(target.upstream.probe_is_asked_for))},
      {"targets.cool_down.statuses", Show(target.cool_down)},
      {"targets.cool_down.retry_after", Show(target.cool_down.retry_after)},
      {"targets.cool_down.length", Show(target.cool_down.length)},
      {"targets.cool_down.max_length", Show(target.cool_down.max_length)},
      {"targets.probe.fall", Show(target.pool.probe_fall)},
      {"targets.probe.rise", Show(target.pool.probe_rise)},
      {"targets.probe.min_status", Show(target.upstream.probe)},
      {"targets.probe.max_status", Show(target.upstream.probe)},
      {"targets.tls_profile", Show(target.upstream.tls_profiles)},
      {"targets.tls_profiles", Show(target.upstream.tls_profiles)},
  };
}

Values TlsProfileValues(const Settings& s) {
  const net::TlsProfile profile = s.upstream.tls_profiles.empty()
                                      ? net::TlsProfile()
                                      : s.upstream.tls_profiles[0];
  return {
      {"tls_profiles.name", absl::StrCat(profile.name, " ", Show(profile.alpn),
                                         " ", Show(profile.session_tickets))},
      {"tls_profiles.min_version", Show(profile.min_version)},
      {"tls_profiles.max_version", Show(profile.max_version)},
      {"tls_profiles.ciphers", Show(profile.ciphers)},
      {"tls_profiles.groups", Show(profile.groups)},
      {"tls_profiles.signature_algorithms", Show(profile.signature_algorithms)},
      {"tls_profiles.alpn", Show(profile.alpn)},
      {"tls_profiles.grease", Show(profile.grease)},
      {"tls_profiles.permute_extensions", Show(profile.permute_extensions)},
      {"tls_profiles.certificate_compression",
       Show(profile.certificate_compression)},
      {"tls_profiles.extra_extensions", Show(profile.extra_extensions)},
      {"tls_profiles.session_tickets",
       Show(s.upstream.tls_profiles.empty() || profile.session_tickets)},
      {"tls_profiles.client_certificate.cert_file", Show(profile.cert_file)},
      {"tls_profiles.client_certificate.key_file", Show(profile.key_file)},
      {"tls_profiles.ca_file", Show(profile.ca_file)},
      {"tls_profiles.pins", Show(profile.pins)},
      {"tls_profiles.allow_weak_certificates",
       Show(profile.allow_weak_certificates)},
  };
}

Values OtherValues(const Settings& s) {
  return {
      {"overload.max_memory_bytes", Show(s.broker.overload.max_memory_bytes)},
      {"overload.max_calls", Show(s.broker.overload.max_calls)},
      {"overload.max_answer_bytes", Show(s.broker.max_answer_bytes)},
      {"pool.max_connections", Show(s.pool.max_connections)},
      {"pool.max_dials", Show(s.pool.max_dials)},
      {"pool.max_targets", Show(s.pool.max_targets)},
      {"pool.shards", Show(s.pool.shards)},
      {"pool.probe_timeout", Show(s.upstream.probe_timeout)},
      {"pool.lease_ttl", Show(s.broker.lease_ttl)},
      {"pool.max_lease_ttl",
       absl::StrCat(Show(s.broker.max_lease_ttl), " lease_ttl ",
                    Show(s.broker.lease_ttl))},
      {"pool.leak_after", Show(s.pool.leak_after)},
      {"upstream.loops", Show(s.upstream.loops)},
      {"upstream.ca_file", Show(s.upstream.ca_file)},
      {"upstream.connect_timeout", Show(s.upstream.connect_timeout)},
      {"upstream.tcp_timeout", Show(s.upstream.tcp_timeout)},
      {"upstream.ping_after", Show(s.upstream.ping_after)},
      {"upstream.ping_timeout", Show(s.upstream.ping_timeout)},
      {"upstream.tls_timeout", Show(s.upstream.tls_timeout)},
      {"upstream.max_header_bytes", Show(s.upstream.max_header_bytes)},
      {"upstream.dns_servers", Show(s.upstream.dns_servers)},
      {"upstream.eject_after", Show(s.upstream.addresses.eject_after)},
      {"upstream.eject_base", Show(s.upstream.addresses.eject_base)},
      {"upstream.eject_max", Show(s.upstream.addresses.eject_max)},
      {"upstream.address_grace", Show(s.upstream.addresses.grace)},
      {"upstream.attempt_stagger", Show(s.upstream.attempt_stagger)},
      {"upstream.source_addresses", Show(s.upstream.source_addresses.size())},
      {"egress.default", s.upstream.egress.default_public ? "public" : "none"},
      {"egress.allow", Show(s.upstream.egress.allow.size())},
      {"egress.deny", Show(s.upstream.egress.deny.size())},
      {"execute.default_deadline", Show(s.broker.default_deadline)},
      {"execute.max_body_bytes", Show(s.broker.max_body_bytes)},
      {"execute.max_attempts", Show(s.broker.max_attempts)},
      {"execute.retry_budget_percent", Show(s.broker.retry_budget_percent)},
      {"execute.forward_traceparent", Show(s.broker.forward_traceparent)},
      {"session.max_items_per_message",
       Show(s.broker.session.max_items_per_message)},
      {"session.max_items_in_flight",
       Show(s.broker.session.max_items_in_flight)},
      {"session.max_leases", Show(s.broker.session.max_leases)},
      {"session.max_buffered_bytes", Show(s.broker.session.max_buffered_bytes)},
      {"rewarm.file", Show(s.rewarm.file)},
      {"rewarm.interval", Show(s.rewarm.interval)},
      {"rewarm.dials_per_second", Show(s.rewarm.dials_per_second)},
      {"rewarm.patience", Show(s.rewarm.patience)},
      {"rewarm.ready_when_warm", Show(s.rewarm.ready_when_warm)},
      {"upstream.tls_profile", Show(s.upstream.tls_profile)},
      {"upstream.max_tls_sessions", Show(s.upstream.max_tls_sessions)},
      {"upstream.tls_session_lifetime", Show(s.upstream.tls_session_lifetime)},
      {"log.level", s.log_level == LogLevel::kDebug ? "debug" : "other"},
      {"log.format", s.log_format == LogFormat::kJson ? "json" : "other"},
      {"log.access", s.access_log.mode == AccessLogOptions::Mode::kErrors
                         ? "errors"
                         : "other"},
      {"log.access_one_in", Show(static_cast<int>(s.access_log.one_in))},
      {"tracing.collector", Show(s.tracing.collector)},
      {"tracing.new_trace_one_in",
       Show(static_cast<int>(s.tracing.new_trace_one_in))},
      {"metrics.max_targets", Show(s.metrics_max_targets)},
      {"shutdown_grace", Show(s.shutdown_grace)},
      {"tunnel.idle_timeout", Show(s.broker.tunnel_idle_timeout)},
  };
}

Values AllValues(const Settings& s) {
  Values all = OtherValues(s);
  all.merge(FrontValues(s));
  all.merge(TargetValues(s));
  all.merge(TlsProfileValues(s));
  return all;
}

TEST(ConfigTest, DefaultsAreTheDocumentedOnes) {
  const Settings s = DefaultSettings(2);
  Values values = AllValues(s);
  for (const auto& row :
       testing::ReadRows("tests/server/config/defaults.tsv", 2, 71)) {
    EXPECT_TRUE(values.contains(row[0])) << row[0];
    EXPECT_EQ(values[row[0]], row[1]) << row[0];
  }
  EXPECT_EQ(s.policy, PolicyRules());
  const pool::TargetConfig& target = s.default_target.pool;
  EXPECT_EQ(target.lifetime_jitter, 0.1);
  EXPECT_EQ(target.probe, pool::ProbeKind::kHttp);
  EXPECT_EQ(s.default_target.upstream.validate.path, "");
  EXPECT_EQ(s.default_target.upstream.probe, Probe("/"));
  EXPECT_FALSE(s.default_target.upstream.probe_tcp_only);
  EXPECT_TRUE(s.targets.empty());
  EXPECT_TRUE(s.upstream.tls_profiles.empty());
  EXPECT_EQ(s.log_level, LogLevel::kInfo);
  EXPECT_EQ(s.log_format, LogFormat::kText);
  EXPECT_TRUE(s.warnings.empty());
}

// A key, a file that sets it to another value than the default, and the value
// that arrives.
struct Row {
  std::string key;
  std::string yaml;
  std::string value;
};

std::vector<Row> Rows() {
  std::vector<Row> rows;
  for (const auto& row :
       testing::ReadRows("tests/server/config/keys.tsv", 3, 129)) {
    rows.push_back({row[0], row[1], row[2]});
  }
  return rows;
}

void CollectKeys(
    const Descriptor& type, const std::string& prefix,
    std::vector<std::pair<std::string, const FieldDescriptor*>>* keys) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string path = prefix + field.name();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
        field.message_type()->full_name() != "google.protobuf.Duration") {
      CollectKeys(*field.message_type(), path + ".", keys);
    } else {
      keys->emplace_back(path, &field);
    }
  }
}

std::vector<std::pair<std::string, const FieldDescriptor*>> AllKeys() {
  std::vector<std::pair<std::string, const FieldDescriptor*>> keys;
  CollectKeys(*v1::Config::descriptor(), "", &keys);
  return keys;
}

TEST(ConfigTest, EveryKeyCanBeSetAndArrives) {
  std::set<std::string> paths;
  Values defaults = AllValues(DefaultSettings(2));
  for (const Row& row : Rows()) {
    paths.insert(row.key);
    EXPECT_NE(defaults[row.key], row.value) << row.key << ": the default";
    EXPECT_EQ(AllValues(Parse(row.yaml))[row.key], row.value) << row.key;
  }
  for (const auto& [path, unused] : AllKeys()) {
    EXPECT_EQ(paths.count(path), 1u) << path << " has no row";
  }
  EXPECT_EQ(paths.size(), AllKeys().size());
}

TEST(ConfigTest, EveryNumberAndDurationHasBounds) {
  for (const auto& [path, field] : AllKeys()) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING ||
        field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
      continue;
    }
    EXPECT_TRUE(NumberRuleOf(path) != nullptr ||
                DurationRuleOf(path) != nullptr)
        << path;
  }
}

// All options but functions and compiled ones.
auto Fields(const upstream::Options& options) {
  const auto& [loops, ca_file, tls_profiles, tls_profile, max_tls_sessions,
               tls_session_lifetime, connect_timeout, tcp_timeout, tls_timeout,
               probe_timeout, ping_after, ping_timeout, max_header_bytes,
               attempt_stagger, source_addresses, addresses, dns_servers,
               egress, target_policy] = options;
  return std::tuple(loops, ca_file, tls_profiles, tls_profile, max_tls_sessions,
                    tls_session_lifetime, connect_timeout, tcp_timeout,
                    tls_timeout, probe_timeout, ping_after, ping_timeout,
                    max_header_bytes, attempt_stagger, source_addresses,
                    addresses, dns_servers, egress);
}

auto Fields(const BrokerSettings& settings) {
  const auto& [default_deadline, max_body_bytes, max_attempts,
               retry_budget_percent, forward_traceparent, lease_ttl,
               max_lease_ttl, tunnel_idle_timeout, session, tls_profiles,
               policy, overload, max_answer_bytes, targets, observer,
               cool_down] = settings;
  return std::tuple(default_deadline, max_body_bytes, max_attempts,
                    retry_budget_percent, forward_traceparent, lease_ttl,
                    max_lease_ttl, tunnel_idle_timeout, session, tls_profiles,
                    policy == nullptr, overload.max_memory_bytes,
                    overload.max_calls, max_answer_bytes, targets, cool_down);
}

TEST(ConfigTest, TheEffectiveConfigurationParsesToTheSameSettings) {
  for (const Row& row : Rows()) {
    const Settings once = Parse(row.yaml);
    const Settings twice = Parse(once.effective_yaml);
    EXPECT_EQ(AllValues(twice)[row.key], row.value) << once.effective_yaml;
    EXPECT_EQ(once.effective_yaml, twice.effective_yaml);
    EXPECT_EQ(once.targets, twice.targets);
    EXPECT_EQ(once.default_target, twice.default_target);
    EXPECT_TRUE(Fields(once.upstream) == Fields(twice.upstream)) << row.key;
    EXPECT_TRUE(Fields(once.broker) == Fields(twice.broker)) << row.key;
    EXPECT_EQ(once.rewarm, twice.rewarm);
    EXPECT_EQ(once.access_log, twice.access_log);
    EXPECT_EQ(once.tracing, twice.tracing);
  }
}

TEST(ConfigTest, EmptySectionsCountAsOmitted) {
  EXPECT_EQ(
      Parse("pool:\nlog:\n# nothing\ntargets:\negress: {}\n").effective_yaml,
      DefaultSettings(2).effective_yaml);
  EXPECT_EQ(Parse("listen: {http: ''}").http_listen, "");
  EXPECT_EQ(Parse("listen: {admin: ''}").admin.address, "");
}

TEST(ConfigTest, FreePortsMayBeAskedForByEveryListener) {
  const Settings s = Parse(
      "listen: {grpc: ['127.0.0.1:0'], http: '127.0.0.1:0', admin: "
      "'127.0.0.1:0'}");
  EXPECT_EQ(s.admin.address, "127.0.0.1:0");
}

TEST(ConfigTest, TheUsersOfUnixSocketsHoldForTheControlPlaneToo) {
  const Settings s = Parse("listen: {allowed_uids: [5], allowed_gids: [7]}");
  EXPECT_EQ(s.admin.allowed_uids, std::vector<uint32_t>{5});
  EXPECT_EQ(s.admin.allowed_gids, std::vector<uint32_t>{7});
}

TEST(ConfigTest, DefaultsScaleWithTheCores) {
  EXPECT_EQ(ParseConfig("", "t", 1)->upstream.loops, 1);
  EXPECT_EQ(ParseConfig("", "t", 1)->pool.shards, 4);
  EXPECT_EQ(ParseConfig("", "t", 12)->upstream.loops, 6);
  EXPECT_EQ(ParseConfig("", "t", 12)->pool.shards, 64);
  EXPECT_EQ(ParseConfig("", "t", 100'000)->pool.shards, 1024);
}

TEST(ConfigTest, EachBuiltInTlsProfileCanBeChosen) {
  for (const std::string_view name : kBuiltInTlsProfiles) {
    const std::string profile(name);
    EXPECT_EQ(
        Parse("upstream: {tls_profile: " + profile + "}").upstream.tls_profile,
        profile);
  }
}

TEST(ConfigTest, FaultsOfATlsProfileHaveTheirLine) {
  const std::string yaml =
      "upstream: {ca_file: /no}\n"
      "tls_profiles:\n"
      "- name: a\n"
      "  ciphers:\n"
      "  - good\n"
      "  - bad\n"
      "- name: b\n";
  std::vector<std::string> asked;
  ConfigChecks checks;
  checks.tls_profile = [&](const net::TlsProfile& p) {
    asked.push_back(p.name);
    if (p.name.empty()) {
      EXPECT_EQ(p.ca_file, "/no");
      return std::vector<net::TlsFault>{{"ca_file", "is not there"}};
    }
    if (p.name == "b") return std::vector<net::TlsFault>{{"", "is all wrong"}};
    EXPECT_EQ(p.ca_file, "");
    return std::vector<net::TlsFault>{{"ciphers[1]", "is unknown"}};
  };
  EXPECT_EQ(ParseConfig(yaml, "t.yaml", 2, checks).status().message(),
            "t.yaml:1:21: upstream.ca_file: is not there\n"
            "t.yaml:6:5: tls_profiles[0].ciphers[1]: is unknown\n"
            "t.yaml:7:3: tls_profiles[1]: is all wrong");
  EXPECT_EQ(asked, (std::vector<std::string>{"a", "b", ""}));
}

TEST(ConfigTest, AFaultyFileIsRefusedWithLineKeyAndReason) {
  for (const auto& row :
       testing::ReadRows("tests/server/config/refused.tsv", 2, 104)) {
    const std::string yaml = testing::Unescape(row[0]);
    EXPECT_EQ(Fault(yaml), testing::Unescape(row[1])) << yaml;
  }
}

TEST(ConfigTest, DurationsAndSizesHaveUnits) {
  for (const auto& row :
       testing::ReadRows("tests/server/config/values.tsv", 2, 60)) {
    const auto settings = ParseConfig(row[0], "t.yaml", 2);
    const std::string value =
        !settings.ok() ? std::string(settings.status().message())
        : row[0].find("idle_timeout") != std::string::npos
            ? FormatDuration(settings->default_target.pool.idle_timeout)
            : absl::StrCat(settings->broker.overload.max_memory_bytes);
    EXPECT_EQ(value, row[1]) << row[0];
  }
}

// Of the rows in references.tsv.
absl::StatusOr<std::string> Outside(const std::string& reference) {
  static const std::map<std::string, std::string> values = {
      {"PORT", "7001"},
      {"EMPTY", ""},
      {"YAML", "a: [b, c]"},
      {"AGAIN", "${PORT} $$"},
      {"NUL", std::string("a\0b", 3)},
      {"file:/address", "127.0.0.1:7002"},
      {"file:/secret", "hunter2 \"of a length beyond what messages show\""}};
  const auto found = values.find(reference);
  if (found != values.end()) return found->second;
  return absl::NotFoundError(reference + " is not there");
}

TEST(ConfigTest, ReferencesStandForTextFromOutside) {
  for (const auto& row :
       testing::ReadRows("tests/server/config/references.tsv", 3, 25)) {
    ConfigChecks checks;
    checks.lookup = Outside;
    const auto settings = ParseConfig(row[0], "t.yaml", 2, checks);
    if (!settings.ok()) {
      EXPECT_EQ(settings.status().message(), row[1]) << row[0];
      EXPECT_EQ(row[2], "refused") << row[0];
      continue;
    }
    // An address to listen on, or a file; and how it is printed.
    const std::string value = settings->upstream.ca_file.empty()
                                  ? settings->http_listen
                                  : settings->upstream.ca_file;
    EXPECT_EQ(value, row[1]) << row[0];
    EXPECT_NE(settings->effective_yaml.find(": " + row[2] + "\n"),
              std::string::npos)
        << settings->effective_yaml;
    const auto again =
        ParseConfig(settings->effective_yaml, "t.yaml", 2, checks);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->effective_yaml, settings->effective_yaml);
    EXPECT_EQ(again->upstream.ca_file, settings->upstream.ca_file);
  }
}

TEST(ConfigTest, ReferencesAreExpandedInFilesOnly) {
  EXPECT_EQ(Fault("upstream: {ca_file: '${HOME}'}"),
            "t.yaml:1:21: upstream.ca_file: ${HOME}: references are expanded "
            "in the file only");
}

TEST(ConfigTest, VariablesAndFilesAreLookedUp) {
  const std::string path = ::testing::TempDir() + "/value";
  std::ofstream(path) << "  a b\r\n";
  EXPECT_EQ(*LookUpOutside("file:" + path), "  a b");
  std::ofstream(path) << "a\n\n";
  EXPECT_EQ(*LookUpOutside("file:" + path), "a\n");
  std::ofstream(path) << std::string((1 << 16) + 1, 'a');
  EXPECT_EQ(LookUpOutside("file:" + path).status().message(),
            path + " is larger than 65536 bytes");
  EXPECT_EQ(LookUpOutside("file:/dev/zero").status().message(),
            "/dev/zero is not a regular file");
  EXPECT_EQ(LookUpOutside("file:/no/such").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(LookUpOutside("NO_SUCH_VARIABLE").status().message(),
            "the environment variable NO_SUCH_VARIABLE is not set");
  setenv("HOTLINE_TEST_VARIABLE", "x", 1);
  EXPECT_EQ(*LookUpOutside("HOTLINE_TEST_VARIABLE"), "x");

  const std::string file = ::testing::TempDir() + "/refers.yaml";
  std::ofstream(file) << "upstream: {ca_file: '/${HOTLINE_TEST_VARIABLE}'}";
  const auto settings = LoadConfig(file);
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->upstream.ca_file, "/x");
  unsetenv("HOTLINE_TEST_VARIABLE");
  EXPECT_EQ(LoadConfig(file).status().message(),
            file +
                ":1:21: upstream.ca_file: the environment variable "
                "HOTLINE_TEST_VARIABLE is not set");
}

TEST(ConfigTest, FaultsOfTheMachineHaveTheirPlace) {
  const std::string yaml =
      "listen:\n"
      "  http: nonsense\n"
      "  admin: 127.0.0.1:1\n"
      "pool: {shards: x}\n";
  ConfigChecks checks;
  checks.machine = [](const Settings&) {
    return std::vector<KeyFault>{{"listen.http", "is nonsense"},
                                 {"listen.admin", "is taken"},
                                 {"", "all is wrong"},
                                 {"pool", "is strange", true}};
  };
  EXPECT_EQ(ParseConfig(yaml, "t.yaml", 2, checks).status().message(),
            "t.yaml:2:9: listen.http: must be a numeric address and a port "
            "such as 127.0.0.1:9464, or empty\n"
            "t.yaml:3:10: listen.admin: is taken\n"
            "t.yaml:4:16: pool.shards: expected a whole number, not x");
  checks.machine = [](const Settings&) {
    return std::vector<KeyFault>{{"", "all is wrong"}};
  };
  EXPECT_EQ(ParseConfig("", "t.yaml", 2, checks).status().message(),
            "t.yaml:1:1: all is wrong");
  checks.machine = [](const Settings&) {
    return std::vector<KeyFault>{{"pool.shards", "is strange", true}};
  };
  EXPECT_EQ(ParseConfig("pool:\n  shards: 3", "t.yaml", 2, checks)->warnings,
            std::vector<std::string>{"t.yaml:2:11: pool.shards: is strange"});
}

// "key: before -> after", with " (restart)".
std::vector<std::string> Diff(const std::string& before,
                              const std::string& after) {
  std::vector<std::string> out;
  for (const ConfigChange& change : DiffConfigs(Parse(before), Parse(after))) {
    out.push_back(absl::StrCat(change.key, ": ", change.before, " -> ",
                               change.after,
                               change.needs_restart ? " (restart)" : ""));
  }
  return out;
}

TEST(ConfigTest, ChangedKeysAreListedWithTheirValues) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(Diff("", "pool: {max_connections: 100, idle_timeout: 0m45s}"),
            Lines());
  EXPECT_EQ(
      Diff("log: {level: debug}",
           "pool: {max_connections: 7, shards: 3}\n"
           "egress: {allow: [a.b, '10.0.0.0/8']}\n"
           "shutdown_grace: 1m\n"),
      (Lines{"egress.allow: [] -> [\"a.b\", \"10.0.0.0/8\"]",
             "log.level: \"debug\" -> \"info\"",
             "pool.max_connections: 100 -> 7", "pool.shards: 0 -> 3 (restart)",
             "shutdown_grace: \"20s\" -> \"60s\""}));
  // Entries of lists go by their names.
  const std::string a = "- {target: 'https://a.test', warm: 1}\n";
  const std::string b = "- {target: 'https://b.test:443', warm: 2}\n";
  EXPECT_EQ(Diff("targets:\n" + a + b, "targets:\n" + b + a), Lines());
  EXPECT_EQ(Diff("targets:\n" + a,
                 "targets:\n- {target: 'https://A.test:443', warm: 2}\n"
                 "  # The same target.\n"),
            (Lines{"targets[https://a.test:443].target: \"https://a.test\" -> "
                   "\"https://A.test:443\"",
                   "targets[https://a.test:443].warm: 1 -> 2"}));
  EXPECT_EQ(Diff("targets:\n- {target: 'tcp://a:1', max_connections: 3}\n", ""),
            (Lines{"targets[tcp://a:1].deadline_admission: false -> ",
                   "targets[tcp://a:1].max_connections: 3 -> ",
                   "targets[tcp://a:1].proxy: \"\" -> ",
                   "targets[tcp://a:1].ready_when_warm: false -> ",
                   "targets[tcp://a:1].target: \"tcp://a:1\" -> ",
                   "targets[tcp://a:1].warm: 0 -> ",
                   "targets[tcp://a:1].warm_max: 0 -> "}));
  EXPECT_EQ(Diff("tls_profiles: [{name: a, pins: [x]}, {name: b}]",
                 "tls_profiles: [{name: b}, {name: a, pins: [y]}]"),
            (Lines{"tls_profiles[a].pins: [\"x\"] -> [\"y\"]"}));
  EXPECT_EQ(Diff("listen: {admin: ''}", "listen: {allowed_uids: [7]}"),
            (Lines{"listen.admin: \"\" -> \"127.0.0.1:50052\" (restart)",
                   "listen.allowed_uids: [] -> [7] (restart)"}));
}

TEST(ConfigTest, ValuesFromFilesDifferWithoutBeingShown) {
  ConfigChecks checks;
  std::string content = "/one";
  checks.lookup = [&content](const std::string&) { return content; };
  const std::string yaml = "upstream: {ca_file: '${file:/path}'}";
  const auto before = ParseConfig(yaml, "t.yaml", 2, checks);
  EXPECT_EQ(DiffConfigs(*before, *ParseConfig(yaml, "t.yaml", 2, checks)),
            std::vector<ConfigChange>());
  content = "/two";
  EXPECT_EQ(DiffConfigs(*before, *ParseConfig(yaml, "t.yaml", 2, checks)),
            (std::vector<ConfigChange>{{"upstream.ca_file", "\"${file:/path}\"",
                                        "\"${file:/path}\""}}));
}

TEST(ConfigTest, AWrongTargetIsRefused) {
  for (const char* target :
       {"a.example", "ftp://a.example", "https://a.example/path", "https://",
        "https://:1", "https://a.example:0", "https://a b"}) {
    const std::string fault =
        Fault(absl::StrCat("targets: [{target: '", target, "'}]"));
    EXPECT_TRUE(fault.starts_with("t.yaml:1:20: targets[0].target: ")) << fault;
  }
}

TEST(ConfigTest, OversizedConfigurationsAreRefused) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "- ";
  EXPECT_EQ(Fault(deep), "t.yaml:1:33: nested deeper than 16 levels");
  EXPECT_EQ(Fault("a: " + std::string(20, '{') + std::string(20, '}')),
            "t.yaml:1:5: a key must be a word");
  EXPECT_NE(Fault(std::string(100'000, '[')), "accepted");
  EXPECT_EQ(Fault(std::string((1 << 20) + 1, '#')),
            "t.yaml:1:1: larger than 1048576 bytes");
  std::string many = "a: [";
  for (int i = 0; i < 200'000; ++i) many += "1, ";
  EXPECT_EQ(Fault(many + "]"), "t.yaml:1:299999: more than 100000 values");
}

// Changes, removes, doubles or inserts a few bytes of a file.
std::string Mutate(std::string text, const std::string& other,
                   std::minstd_rand& random) {
  constexpr std::string_view kBytes = "{}[]:,-#&*!|>'\"%@` \n\t09asx\\\xff";
  for (int changes = 1 + random() % 2; changes > 0 && !text.empty();
       --changes) {
    const size_t at = random() % text.size();
    const size_t length = random() % 12;
    switch (random() % 5) {
      case 0:
        text[at] = kBytes[random() % kBytes.size()];
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(random() % text.size(), length));
        break;
      case 3:
        text.insert(at, 1, kBytes[random() % kBytes.size()]);
        break;
      default:
        text.insert(at, other.substr(random() % other.size(), length));
    }
  }
  return text;
}

TEST(ConfigTest, AMutatedFileIsRefusedWithItsLineOrRoundTrips) {
  const std::vector<Row> rows = Rows();
  const std::string whole = DefaultSettings(2).effective_yaml;
  std::minstd_rand random(1);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string row = rows[random() % rows.size()].yaml;
    const std::string text =
        i % 8 == 0 ? Mutate(whole, row, random) : Mutate(row, whole, random);
    const auto settings = ParseConfig(text, "t.yaml", 2);
    if (!settings.ok()) {
      EXPECT_TRUE(settings.status().message().substr(0, 7) == "t.yaml:")
          << text << "\n"
          << settings.status();
      continue;
    }
    ++accepted;
    const auto again = ParseConfig(settings->effective_yaml, "t.yaml", 2);
    ASSERT_TRUE(again.ok()) << text << "\n" << again.status();
    EXPECT_EQ(again->effective_yaml, settings->effective_yaml) << text;
    EXPECT_EQ(again->targets, settings->targets) << text;
  }
  // The mutations produce accepted and refused files.
  EXPECT_GT(accepted, 100);
  EXPECT_LT(accepted, 19'000);
}

TEST(ConfigTest, AllFaultsAreReportedInTheFilesOrder) {
  EXPECT_EQ(
      Fault("pool:\n  max_dials: 0\n  shards: x\nlog: {level: loud}\n"),
      "t.yaml:2:14: pool.max_dials: must be 1 to 1000000, not 0\n"
      "t.yaml:3:11: pool.shards: expected a whole number, not x\n"
      "t.yaml:4:14: log.level: must be one of info, debug, warning, error; "
      "not \"loud\"");
  // Keys by themselves and with each other, in one go.
  EXPECT_EQ(Fault("pool: {max_dials: 0}\n"
                  "upstream: {eject_max: 1s}\n"
                  "targets:\n"
                  "- target: nonsense\n"
                  "  warm: 11\n"),
            "t.yaml:1:19: pool.max_dials: must be 1 to 1000000, not 0\n"
            "t.yaml:2:23: upstream.eject_max: must not be shorter than "
            "upstream.eject_base (30s)\n"
            "t.yaml:4:11: targets[0].target: the scheme is https, http, tls "
            "or tcp\n"
            "t.yaml:5:9: targets[0].warm: must be at most the target's "
            "max_connections (10), not 11");
  std::string many;
  for (int i = 0; i < 50; ++i)
    absl::StrAppend(&many, "unknown_key", i, ": 1\n");
  const std::string fault = Fault(many);
  EXPECT_EQ(std::count(fault.begin(), fault.end(), '\n'), 20);
  EXPECT_TRUE(fault.ends_with("\nt.yaml: and 30 more faults")) << fault;
}

TEST(ConfigTest, TheConsequencesOfAFaultAreNotFaults) {
  for (const char* yaml :
       {"pool: {max_lease_ttl: x, lease_ttl: 1h}",
        "pool: {max_connections_per_target: x}\n"
        "targets: [{target: 'https://a', warm: 20}]",
        "upstream: {eject_base: x, eject_max: 1s}",
        "upstream: {tls_profile: a}\ntls_profiles: [{name: '?'}]",
        "listen: {grpc: ['0.0.0.0:1'], insecure: yes}", "listen: {grpc: [5]}",
        "targets: [x]",
        "targets: [{target: 'https://a', probe: {kind: x, path: /}}]",
        "policy: {rules: [{identities: ['*'], targets: 5, snis: [a]}]}"}) {
    const std::string fault = Fault(yaml);
    EXPECT_EQ(std::count(fault.begin(), fault.end(), '\n'), 0) << fault;
  }
}

TEST(ConfigTest, SuspiciousLinesAreWarnedAbout) {
  for (const auto& row :
       testing::ReadRows("tests/server/config/warnings.tsv", 2, 9)) {
    const std::string yaml = testing::Unescape(row[0]);
    EXPECT_EQ(absl::StrJoin(Parse(yaml).warnings, "\n"),
              testing::Unescape(row[1]))
        << yaml;
  }
}

TEST(ConfigTest, LikelyMistakesAreWarnedAbout) {
  EXPECT_EQ(Parse("pool:\n"
                  "  max_connections: 5\n"
                  "  max_connections_per_target: 8\n"
                  "targets:\n"
                  "  - target: 'https://a.example'\n"
                  "    max_connections: 6\n"
                  "    warm: 3\n"
                  "  - target: 'https://b.example'\n"
                  "    warm: 3\n")
                .warnings,
            (std::vector<std::string>{
                "t.yaml:3:31: pool.max_connections_per_target: more than "
                "pool.max_connections (5), which is the limit that applies",
                "t.yaml:4:1: targets: warm connections add up to 6, more than "
                "pool.max_connections (5)",
                "t.yaml:6:22: targets[0].max_connections: more than "
                "pool.max_connections (5), which is the limit that applies"}));
  EXPECT_EQ(
      Parse("tls_profiles: [{name: a, min_version: '1.1'}]").warnings,
      (std::vector<std::string>{"t.yaml:1:39: tls_profiles[0].min_version: TLS "
                                "1.0 and 1.1 are broken "
                                "in known ways (RFC 8996)"}));
}

TEST(ConfigTest, AFileIsReadAndNamedInItsFaults) {
  const std::string path = ::testing::TempDir() + "/config.yaml";
  std::ofstream(path) << "pool: {max_connections: 3}\n";
  const auto settings = LoadConfig(path);
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->pool.max_connections, 3);
  std::ofstream(path) << "pol: {}\n";
  EXPECT_EQ(LoadConfig(path).status().message(),
            path + ":1:1: pol: unknown key (did you mean pool?)");
  std::ofstream(path) << std::string(2 << 20, '#');
  EXPECT_EQ(LoadConfig(path).status().message(),
            path + ":1:1: larger than 1048576 bytes");
}

TEST(ConfigTest, ChangedKeysThatNeedARestartAreNamed) {
  const Settings started = DefaultSettings(2);
  const auto waiting = [&](const std::string& yaml) {
    const auto now = ParseConfig(yaml, "test", 2);
    EXPECT_TRUE(now.ok()) << now.status();
    std::string keys;
    for (const auto& key : WaitingForStart(started, *now)) keys += key + " ";
    return keys;
  };
  EXPECT_EQ(waiting(""), "");
  EXPECT_EQ(waiting("pool: {max_connections: 7}"), "");
  EXPECT_EQ(waiting("listen: {grpc: ['127.0.0.1:1']}"), "listen ");
  EXPECT_EQ(waiting("listen: {http: ''}"), "listen ");
  EXPECT_EQ(waiting("listen: {admin: ''}"), "listen ");
  EXPECT_EQ(waiting("listen: {max_connections: 7}"), "listen ");
  EXPECT_EQ(waiting("pool: {shards: 3}\nupstream: {loops: 3}"),
            "pool.shards upstream.loops ");
  EXPECT_EQ(waiting("upstream: {dns_servers: ['127.0.0.1']}\n"
                    "metrics: {max_targets: 7}"),
            "upstream.dns_servers metrics.max_targets ");
}

TEST(ConfigTest, AFileThatCannotBeReadIsNamed) {
  const std::string missing = ::testing::TempDir() + "/no-such-file.yaml";
  const auto status = LoadConfig(missing).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("no-such-file.yaml"), std::string::npos);
  EXPECT_FALSE(LoadConfig(::testing::TempDir()).ok());
}

}  // namespace
}  // namespace hotline::server
