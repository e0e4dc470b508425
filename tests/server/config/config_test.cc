#include "server/config/config.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "hotline/v1/config.pb.h"
#include "server/config/rules.h"

namespace hotline::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr char kTarget[] = "https://a.example:443";
constexpr char kTls[] =
    "listen: {grpc: ['0.0.0.0:1'], tls: {cert_file: /c.pem, key_file: /k.pem, "
    "client_ca_file: /a.pem}}";

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

TEST(ConfigTest, DefaultsAreTheDocumentedOnes) {
  const Settings s = DefaultSettings(2);
  EXPECT_EQ(s.front.door.addresses,
            std::vector<std::string>{"127.0.0.1:50051"});
  EXPECT_EQ(s.http_listen, "127.0.0.1:9464");
  EXPECT_EQ(s.admin.address, "127.0.0.1:50052");
  EXPECT_EQ(s.front.tls.cert_file, "");
  EXPECT_TRUE(s.front.door.allowed_uids.empty());
  EXPECT_TRUE(s.front.door.allowed_gids.empty());
  EXPECT_EQ(s.front.door.max_connections, 0);
  EXPECT_EQ(s.front.door.max_connections_per_peer, 0);
  EXPECT_EQ(s.front.handshake_timeout, seconds(3));
  EXPECT_EQ(s.front.max_resets_per_second, 1000);
  EXPECT_EQ(s.policy, PolicyRules());
  EXPECT_EQ(s.broker.overload.max_memory_bytes, 0);
  EXPECT_EQ(s.broker.overload.max_calls, 10'000);
  EXPECT_EQ(s.broker.max_answer_bytes, 0);
  EXPECT_EQ(s.pool.max_connections, 100);
  EXPECT_EQ(s.pool.max_dials, 64);
  EXPECT_EQ(s.pool.max_targets, 131072);
  EXPECT_EQ(s.pool.shards, 8);
  EXPECT_EQ(s.pool.leak_after, seconds(60));
  const pool::TargetConfig& target = s.default_target.pool;
  EXPECT_EQ(target.max_connections, 10);
  EXPECT_EQ(target.max_waiters, 1024);
  EXPECT_EQ(target.max_dials, 4);
  EXPECT_EQ(target.warm, 0);
  EXPECT_EQ(target.idle_timeout, seconds(45));
  EXPECT_EQ(target.max_lifetime, seconds(300));
  EXPECT_EQ(target.lifetime_jitter, 0.1);
  EXPECT_EQ(target.check_interval, seconds(30));
  EXPECT_EQ(target.probe, pool::ProbeKind::kHttp);
  EXPECT_EQ(target.max_errors, 10);
  EXPECT_EQ(target.max_streams, 128);
  EXPECT_EQ(target.breaker_failures, 10);
  EXPECT_EQ(target.desync_limit, 3);
  EXPECT_EQ(target.breaker_open_for, seconds(2));
  EXPECT_EQ(s.default_target.upstream.validate.path, "");
  EXPECT_EQ(s.default_target.upstream.probe, Probe("/"));
  EXPECT_FALSE(s.default_target.upstream.probe_tcp_only);
  EXPECT_TRUE(s.targets.empty());
  EXPECT_EQ(s.upstream.loops, 1);
  EXPECT_EQ(s.upstream.ca_file, "");
  EXPECT_EQ(s.upstream.connect_timeout, seconds(30));
  EXPECT_EQ(s.upstream.tcp_timeout, seconds(5));
  EXPECT_EQ(s.upstream.tls_timeout, seconds(10));
  EXPECT_EQ(s.upstream.ping_after, seconds(20));
  EXPECT_EQ(s.upstream.ping_timeout, seconds(5));
  EXPECT_EQ(s.upstream.probe_timeout, seconds(10));
  EXPECT_EQ(s.upstream.max_header_bytes, 65536);
  EXPECT_EQ(s.upstream.tls_profile, "default");
  EXPECT_TRUE(s.upstream.tls_profiles.empty());
  EXPECT_EQ(s.upstream.max_tls_sessions, 1024);
  EXPECT_EQ(s.upstream.tls_session_lifetime, seconds(7200));
  EXPECT_TRUE(s.default_target.upstream.tls_profiles.empty());
  EXPECT_TRUE(s.upstream.dns_servers.empty());
  EXPECT_EQ(s.upstream.addresses.eject_after, 5);
  EXPECT_EQ(s.upstream.addresses.eject_base, seconds(30));
  EXPECT_EQ(s.upstream.addresses.eject_max, seconds(300));
  EXPECT_EQ(s.upstream.addresses.grace, seconds(60));
  EXPECT_EQ(s.upstream.attempt_stagger, std::chrono::milliseconds(250));
  EXPECT_TRUE(s.upstream.source_addresses.empty());
  EXPECT_EQ(s.default_target.upstream.proxy, "");
  EXPECT_TRUE(s.upstream.egress.default_public);
  EXPECT_EQ(s.broker.default_deadline, seconds(30));
  EXPECT_EQ(s.broker.max_body_bytes, 3 << 20);
  EXPECT_EQ(s.broker.max_attempts, 3);
  EXPECT_EQ(s.broker.retry_budget_percent, 20);
  EXPECT_FALSE(s.broker.forward_traceparent);
  EXPECT_EQ(s.broker.session.max_items_per_message, 1024);
  EXPECT_EQ(s.broker.session.max_items_in_flight, 1024);
  EXPECT_EQ(s.broker.session.max_leases, 1024);
  EXPECT_EQ(s.broker.session.max_buffered_bytes, 32 << 20);
  EXPECT_EQ(s.broker.lease_ttl, seconds(30));
  EXPECT_EQ(s.broker.max_lease_ttl, minutes(10));
  EXPECT_EQ(s.log_level, LogLevel::kInfo);
  EXPECT_EQ(s.log_format, LogFormat::kText);
  EXPECT_EQ(s.metrics_max_targets, 100);
  EXPECT_EQ(s.shutdown_grace, seconds(20));
  EXPECT_EQ(s.broker.tunnel_idle_timeout, minutes(5));
  EXPECT_EQ(s.rewarm, (RewarmSettings{.file = "",
                                      .interval = seconds(10),
                                      .dials_per_second = 50,
                                      .patience = seconds(30),
                                      .ready_when_warm = false}));
  EXPECT_TRUE(s.warnings.empty());
}

TEST(ConfigTest, NothingIsAskedOfWhatNobodyKnowsTheProtocolOf) {
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

TEST(ConfigTest, ProbeIsOursToChooseUnlessAsked) {
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

TEST(ConfigTest, TlsThatServesNobodyIsPointedOut) {
  const Settings s =
      Parse("listen:\n  tls: {cert_file: c, key_file: k, client_ca_file: a}\n");
  ASSERT_EQ(s.warnings.size(), 1u);
  EXPECT_EQ(s.warnings[0],
            "t.yaml:2: listen.tls: is not used: every listener is loopback or "
            "a Unix socket, which are served without TLS");
}

// A key, a file that sets it to another value than the default, and a check
// that the value has arrived.
struct Row {
  const char* path;
  const char* yaml;
  std::function<bool(const Settings&)> arrived;
};

// The first rule, or an empty one.
PolicyRule Rule(const Settings& s) {
  return s.policy.rules.empty() ? PolicyRule() : s.policy.rules[0];
}

const TargetSettings& Mine(const Settings& s) { return s.ForTarget(kTarget); }

net::TlsProfile OurProfile(const Settings& s) {
  return s.upstream.tls_profiles.empty() ? net::TlsProfile()
                                         : s.upstream.tls_profiles[0];
}

std::vector<Row> Rows() {
  return {
      {"listen.grpc", "listen: {grpc: ['[::1]:0', 'unix:///run/h.sock']}",
       [](const Settings& s) {
         return s.front.door.addresses ==
                std::vector<std::string>{"[::1]:0", "unix:///run/h.sock"};
       }},
      {"listen.http", "listen: {http: '0.0.0.0:19464'}",
       [](const Settings& s) { return s.http_listen == "0.0.0.0:19464"; }},
      {"listen.admin", "listen: {admin: 'unix:///run/a.sock'}",
       [](const Settings& s) {
         return s.admin.address == "unix:///run/a.sock";
       }},
      {"listen.insecure", "listen: {grpc: ['0.0.0.0:1'], insecure: true}",
       [](const Settings& s) {
         return s.front.door.addresses[0] == "0.0.0.0:1";
       }},
      {"listen.tls.cert_file", kTls,
       [](const Settings& s) { return s.front.tls.cert_file == "/c.pem"; }},
      {"listen.tls.key_file", kTls,
       [](const Settings& s) { return s.front.tls.key_file == "/k.pem"; }},
      {"listen.tls.client_ca_file", kTls,
       [](const Settings& s) {
         return s.front.tls.client_ca_file == "/a.pem";
       }},
      {"listen.allowed_uids", "listen: {allowed_uids: [0, 4294967294]}",
       [](const Settings& s) {
         return s.front.door.allowed_uids ==
                std::vector<uint32_t>{0, 4294967294};
       }},
      {"listen.allowed_gids", "listen: {allowed_gids: [7]}",
       [](const Settings& s) {
         return s.front.door.allowed_gids == std::vector<uint32_t>{7};
       }},
      {"listen.max_connections", "listen: {max_connections: 7}",
       [](const Settings& s) { return s.front.door.max_connections == 7; }},
      {"listen.max_connections_per_peer",
       "listen: {max_connections_per_peer: 7}",
       [](const Settings& s) {
         return s.front.door.max_connections_per_peer == 7;
       }},
      {"listen.handshake_timeout", "listen: {handshake_timeout: 7s}",
       [](const Settings& s) {
         return s.front.handshake_timeout == seconds(7);
       }},
      {"listen.max_resets_per_second", "listen: {max_resets_per_second: 70}",
       [](const Settings& s) { return s.front.max_resets_per_second == 70; }},
      {"policy.default", "policy: {default: deny}",
       [](const Settings& s) { return !s.policy.allow_by_default; }},
      {"policy.rules.identities", "policy: {rules: [{identities: ['uid:7']}]}",
       [](const Settings& s) { return Rule(s).identities.size() == 1; }},
      {"policy.rules.targets",
       "policy: {rules: [{identities: ['*'], targets: ['https://*.a:*']}]}",
       [](const Settings& s) { return Rule(s).targets.size() == 1; }},
      {"policy.rules.snis",
       "policy: {rules: [{identities: ['*'], targets: ['https://a'], snis: "
       "['*.b']}]}",
       [](const Settings& s) {
         return Rule(s).snis == std::vector<std::string>{"*.b"};
       }},
      {"policy.rules.remote_ips",
       "policy: {rules: [{identities: ['*'], targets: ['https://a'], "
       "remote_ips: ['10.0.0.0/8']}]}",
       [](const Settings& s) {
         return Rule(s).remote_ips == std::vector<std::string>{"10.0.0.0/8"};
       }},
      {"policy.rules.rpcs",
       "policy: {rules: [{identities: ['*'], rpcs: [Execute, Stats]}]}",
       [](const Settings& s) { return Rule(s).rpcs.size() == 2; }},
      {"policy.rules.max_leases",
       "policy: {rules: [{identities: ['*'], max_leases: 7}]}",
       [](const Settings& s) { return Rule(s).quota.max_leases == 7; }},
      {"policy.rules.max_waiters",
       "policy: {rules: [{identities: ['*'], max_waiters: 7}]}",
       [](const Settings& s) { return Rule(s).quota.max_waiters == 7; }},
      {"policy.rules.requests_per_second",
       "policy: {rules: [{identities: ['*'], requests_per_second: 7}]}",
       [](const Settings& s) {
         return Rule(s).quota.requests_per_second == 7;
       }},
      {"policy.rules.all_leases",
       "policy: {rules: [{identities: ['*'], all_leases: true}]}",
       [](const Settings& s) { return Rule(s).all_leases; }},
      {"overload.max_memory_bytes", "overload: {max_memory_bytes: 7}",
       [](const Settings& s) {
         return s.broker.overload.max_memory_bytes == 7;
       }},
      {"overload.max_calls", "overload: {max_calls: 7}",
       [](const Settings& s) { return s.broker.overload.max_calls == 7; }},
      {"overload.max_answer_bytes", "overload: {max_answer_bytes: 9000000}",
       [](const Settings& s) {
         return s.broker.max_answer_bytes == 9'000'000;
       }},
      {"pool.max_connections", "pool: {max_connections: 7}",
       [](const Settings& s) { return s.pool.max_connections == 7; }},
      {"pool.max_connections_per_target",
       "pool: {max_connections_per_target: 7}",
       [](const Settings& s) { return Mine(s).pool.max_connections == 7; }},
      {"pool.max_waiters_per_target", "pool: {max_waiters_per_target: 0}",
       [](const Settings& s) { return Mine(s).pool.max_waiters == 0; }},
      {"pool.max_dials_per_target", "pool: {max_dials_per_target: 7}",
       [](const Settings& s) { return Mine(s).pool.max_dials == 7; }},
      {"pool.max_dials", "pool: {max_dials: 7}",
       [](const Settings& s) { return s.pool.max_dials == 7; }},
      {"pool.max_targets", "pool: {max_targets: 7}",
       [](const Settings& s) { return s.pool.max_targets == 7; }},
      {"pool.shards", "pool: {shards: 7}",
       [](const Settings& s) { return s.pool.shards == 7; }},
      {"pool.idle_timeout", "pool: {idle_timeout: 7s}",
       [](const Settings& s) {
         return Mine(s).pool.idle_timeout == seconds(7);
       }},
      {"pool.max_lifetime", "pool: {max_lifetime: 7s}",
       [](const Settings& s) {
         return Mine(s).pool.max_lifetime == seconds(7);
       }},
      {"pool.check_interval", "pool: {check_interval: 0.5s}",
       [](const Settings& s) {
         return Mine(s).pool.check_interval == milliseconds(500);
       }},
      {"pool.probe_timeout", "pool: {probe_timeout: 7s}",
       [](const Settings& s) {
         return s.upstream.probe_timeout == seconds(7);
       }},
      {"pool.max_errors", "pool: {max_errors: 0}",
       [](const Settings& s) { return Mine(s).pool.max_errors == 0; }},
      {"pool.max_streams_per_connection",
       "pool: {max_streams_per_connection: 7}",
       [](const Settings& s) { return Mine(s).pool.max_streams == 7; }},
      {"pool.lease_ttl", "pool: {lease_ttl: 7s}",
       [](const Settings& s) { return s.broker.lease_ttl == seconds(7); }},
      {"pool.max_lease_ttl", "pool: {max_lease_ttl: 7s}",
       [](const Settings& s) {
         return s.broker.max_lease_ttl == seconds(7) &&
                s.broker.lease_ttl == seconds(7);
       }},
      {"pool.leak_after", "pool: {leak_after: 7s}",
       [](const Settings& s) { return s.pool.leak_after == seconds(7); }},
      {"upstream.loops", "upstream: {loops: 7}",
       [](const Settings& s) { return s.upstream.loops == 7; }},
      {"upstream.ca_file", "upstream: {ca_file: /ca.pem}",
       [](const Settings& s) { return s.upstream.ca_file == "/ca.pem"; }},
      {"upstream.connect_timeout", "upstream: {connect_timeout: 7s}",
       [](const Settings& s) {
         return s.upstream.connect_timeout == seconds(7);
       }},
      {"upstream.tcp_timeout", "upstream: {tcp_timeout: 7s}",
       [](const Settings& s) { return s.upstream.tcp_timeout == seconds(7); }},
      {"upstream.ping_after", "upstream: {ping_after: 7s}",
       [](const Settings& s) { return s.upstream.ping_after == seconds(7); }},
      {"upstream.ping_timeout", "upstream: {ping_timeout: 7s}",
       [](const Settings& s) { return s.upstream.ping_timeout == seconds(7); }},
      {"upstream.tls_timeout", "upstream: {tls_timeout: 7s}",
       [](const Settings& s) { return s.upstream.tls_timeout == seconds(7); }},
      {"upstream.max_header_bytes", "upstream: {max_header_bytes: 2000}",
       [](const Settings& s) { return s.upstream.max_header_bytes == 2000; }},
      {"upstream.dns_servers",
       "upstream: {dns_servers: ['1.1.1.1', '[::1]:5353', '::1']}",
       [](const Settings& s) { return s.upstream.dns_servers.size() == 3; }},
      {"upstream.eject_after", "upstream: {eject_after: 7}",
       [](const Settings& s) { return s.upstream.addresses.eject_after == 7; }},
      {"upstream.eject_base", "upstream: {eject_base: 7s}",
       [](const Settings& s) {
         return s.upstream.addresses.eject_base == seconds(7);
       }},
      {"upstream.eject_max", "upstream: {eject_max: 77s}",
       [](const Settings& s) {
         return s.upstream.addresses.eject_max == seconds(77);
       }},
      {"upstream.address_grace", "upstream: {address_grace: 7s}",
       [](const Settings& s) {
         return s.upstream.addresses.grace == seconds(7);
       }},
      {"upstream.attempt_stagger", "upstream: {attempt_stagger: 7s}",
       [](const Settings& s) {
         return s.upstream.attempt_stagger == seconds(7);
       }},
      {"upstream.source_addresses",
       "upstream: {source_addresses: ['192.0.2.1', '2001:db8::1']}",
       [](const Settings& s) {
         return s.upstream.source_addresses.size() == 2;
       }},
      {"targets.proxy",
       "targets: [{target: 'https://a.example', "
       "proxy: 'http://Proxy.example:3128'}]",
       [](const Settings& s) {
         return Mine(s).upstream.proxy == "http://proxy.example:3128";
       }},
      {"egress.default", "egress: {default: none}",
       [](const Settings& s) { return !s.upstream.egress.default_public; }},
      {"egress.allow", "egress: {allow: ['10.0.0.0/8', '*.example.com']}",
       [](const Settings& s) { return s.upstream.egress.allow.size() == 2; }},
      {"egress.deny", "egress: {deny: ['2001:db8::/32', '192.0.2.1']}",
       [](const Settings& s) { return s.upstream.egress.deny.size() == 2; }},
      {"execute.default_deadline", "execute: {default_deadline: 7s}",
       [](const Settings& s) {
         return s.broker.default_deadline == seconds(7);
       }},
      {"execute.max_body_bytes", "execute: {max_body_bytes: 7}",
       [](const Settings& s) { return s.broker.max_body_bytes == 7; }},
      {"execute.max_attempts", "execute: {max_attempts: 7}",
       [](const Settings& s) { return s.broker.max_attempts == 7; }},
      {"execute.retry_budget_percent", "execute: {retry_budget_percent: 0}",
       [](const Settings& s) { return s.broker.retry_budget_percent == 0; }},
      {"execute.forward_traceparent", "execute: {forward_traceparent: true}",
       [](const Settings& s) { return s.broker.forward_traceparent; }},
      {"session.max_items_per_message", "session: {max_items_per_message: 7}",
       [](const Settings& s) {
         return s.broker.session.max_items_per_message == 7;
       }},
      {"session.max_items_in_flight", "session: {max_items_in_flight: 7}",
       [](const Settings& s) {
         return s.broker.session.max_items_in_flight == 7;
       }},
      {"session.max_leases", "session: {max_leases: 7}",
       [](const Settings& s) { return s.broker.session.max_leases == 7; }},
      {"session.max_buffered_bytes", "session: {max_buffered_bytes: 70000}",
       [](const Settings& s) {
         return s.broker.session.max_buffered_bytes == 70000;
       }},
      {"targets.target", "targets: [{target: 'HTTPS://A.example'}]",
       [](const Settings& s) { return s.targets.count(kTarget) == 1; }},
      {"targets.max_connections",
       "targets: [{target: 'https://a.example', max_connections: 7}]",
       [](const Settings& s) {
         return Mine(s).pool.max_connections == 7 &&
                s.default_target.pool.max_connections == 10;
       }},
      {"targets.max_waiters",
       "targets: [{target: 'https://a.example', max_waiters: 7}]",
       [](const Settings& s) { return Mine(s).pool.max_waiters == 7; }},
      {"rewarm.file", "rewarm: {file: /var/lib/warm}",
       [](const Settings& s) { return s.rewarm.file == "/var/lib/warm"; }},
      {"rewarm.interval", "rewarm: {interval: 3s}",
       [](const Settings& s) { return s.rewarm.interval == seconds(3); }},
      {"rewarm.dials_per_second", "rewarm: {dials_per_second: 7}",
       [](const Settings& s) { return s.rewarm.dials_per_second == 7; }},
      {"rewarm.patience", "rewarm: {patience: 0s}",
       [](const Settings& s) { return s.rewarm.patience == seconds(0); }},
      {"rewarm.ready_when_warm", "rewarm: {ready_when_warm: true}",
       [](const Settings& s) { return s.rewarm.ready_when_warm; }},
      {"targets.warm_max",
       "targets: [{target: 'https://a.example', warm: 2, warm_max: 5}]",
       [](const Settings& s) {
         return Mine(s).pool.warm == 2 && Mine(s).pool.warm_max == 5;
       }},
      {"targets.deadline_admission",
       "targets: [{target: 'https://a.example', deadline_admission: true}]",
       [](const Settings& s) { return Mine(s).pool.deadline_admission; }},
      {"targets.ready_when_warm",
       "targets: [{target: 'https://a.example', ready_when_warm: true}]",
       [](const Settings& s) { return Mine(s).ready_when_warm; }},
      {"pool.breaker_failures", "pool: {breaker_failures: 3}",
       [](const Settings& s) { return Mine(s).pool.breaker_failures == 3; }},
      {"pool.breaker_open_for", "pool: {breaker_open_for: 7s}",
       [](const Settings& s) {
         return Mine(s).pool.breaker_open_for == seconds(7);
       }},
      {"pool.desync_limit", "pool: {desync_limit: 7}",
       [](const Settings& s) { return Mine(s).pool.desync_limit == 7; }},
      {"targets.desync_limit",
       "targets: [{target: 'https://a.example', desync_limit: 0}]",
       [](const Settings& s) {
         return Mine(s).pool.desync_limit == 0 &&
                s.default_target.pool.desync_limit == 3;
       }},
      {"targets.breaker_failures",
       "targets: [{target: 'https://a.example', breaker_failures: 0}]",
       [](const Settings& s) {
         return Mine(s).pool.breaker_failures == 0 &&
                s.default_target.pool.breaker_failures == 10;
       }},
      {"targets.breaker_open_for",
       "targets: [{target: 'https://a.example', breaker_open_for: 0.5s}]",
       [](const Settings& s) {
         return Mine(s).pool.breaker_open_for == milliseconds(500);
       }},
      {"targets.warm", "targets: [{target: 'https://a.example', warm: 7}]",
       [](const Settings& s) { return Mine(s).pool.warm == 7; }},
      {"targets.validate.path",
       "targets: [{target: 'https://a.example', validate: {path: /v}}]",
       [](const Settings& s) {
         return Mine(s).upstream.validate == upstream::Check{.path = "/v",
                                                             .method = "HEAD",
                                                             .min_status = 200,
                                                             .max_status = 399};
       }},
      {"targets.validate.method",
       "targets: [{target: 'https://a.example', "
       "validate: {path: /v, method: GET}}]",
       [](const Settings& s) {
         return Mine(s).upstream.validate.method == "GET";
       }},
      {"targets.validate.min_status",
       "targets: [{target: 'https://a.example', "
       "validate: {path: /v, min_status: 201}}]",
       [](const Settings& s) {
         return Mine(s).upstream.validate.min_status == 201;
       }},
      {"targets.validate.max_status",
       "targets: [{target: 'https://a.example', "
       "validate: {path: /v, max_status: 499}}]",
       [](const Settings& s) {
         return Mine(s).upstream.validate.max_status == 499;
       }},
      {"targets.probe.kind",
       "targets: [{target: 'https://a.example', probe: {kind: tcp}}]",
       [](const Settings& s) {
         return Mine(s).upstream.probe_tcp_only &&
                Mine(s).pool.probe == pool::ProbeKind::kTcp;
       }},
      {"targets.probe.path",
       "targets: [{target: 'https://a.example', probe: {path: /p}}]",
       [](const Settings& s) {
         return Mine(s).upstream.probe == Probe("/p") &&
                Mine(s).upstream.probe_is_asked_for;
       }},
      {"targets.cool_down.statuses",
       "targets: [{target: 'https://a.example', cool_down: {statuses: "
       "[403, 503]}}]",
       [](const Settings& s) {
         return Mine(s).cool_down ==
                CoolDownSettings{.statuses = {403, 503},
                                 .retry_after = false,
                                 .length = minutes(15),
                                 .max_length = minutes(60)};
       }},
      {"targets.cool_down.retry_after",
       "targets: [{target: 'https://a.example', cool_down: {retry_after: "
       "true}}]",
       [](const Settings& s) { return Mine(s).cool_down.retry_after; }},
      {"targets.cool_down.length",
       "targets: [{target: 'https://a.example', cool_down: {length: 7s}}]",
       [](const Settings& s) {
         return Mine(s).cool_down.length == seconds(7);
       }},
      {"targets.cool_down.max_length",
       "targets: [{target: 'https://a.example', cool_down: {max_length: 8s}}]",
       [](const Settings& s) {
         return Mine(s).cool_down.max_length == seconds(8);
       }},
      {"targets.probe.fall",
       "targets: [{target: 'https://a.example', probe: {fall: 3}}]",
       [](const Settings& s) { return Mine(s).pool.probe_fall == 3; }},
      {"targets.probe.rise",
       "targets: [{target: 'https://a.example', probe: {rise: 2}}]",
       [](const Settings& s) { return Mine(s).pool.probe_rise == 2; }},
      {"targets.probe.min_status",
       "targets: [{target: 'https://a.example', probe: {min_status: 204}}]",
       [](const Settings& s) {
         return Mine(s).upstream.probe == upstream::Check{.path = "/",
                                                          .method = "HEAD",
                                                          .min_status = 204,
                                                          .max_status = 599};
       }},
      {"targets.probe.max_status",
       "targets: [{target: 'https://a.example', probe: {max_status: 299}}]",
       [](const Settings& s) {
         return Mine(s).upstream.probe.min_status == 100 &&
                Mine(s).upstream.probe.max_status == 299;
       }},
      {"upstream.tls_profile", "upstream: {tls_profile: modern}",
       [](const Settings& s) { return s.upstream.tls_profile == "modern"; }},
      {"upstream.max_tls_sessions", "upstream: {max_tls_sessions: 0}",
       [](const Settings& s) { return s.upstream.max_tls_sessions == 0; }},
      {"upstream.tls_session_lifetime", "upstream: {tls_session_lifetime: 7s}",
       [](const Settings& s) {
         return s.upstream.tls_session_lifetime == seconds(7);
       }},
      {"targets.tls_profile",
       "targets: [{target: 'https://a.example', tls_profile: chromium}]",
       [](const Settings& s) {
         return Mine(s).upstream.tls_profiles ==
                std::vector<std::string>{"chromium"};
       }},
      {"targets.tls_profiles",
       "targets: [{target: 'https://a.example', "
       "tls_profiles: [compatible, default]}]",
       [](const Settings& s) {
         return Mine(s).upstream.tls_profiles ==
                std::vector<std::string>{"compatible", "default"};
       }},
      {"tls_profiles.name", "tls_profiles: [{name: a-1_b}]",
       [](const Settings& s) {
         return OurProfile(s).name == "a-1_b" &&
                OurProfile(s).alpn ==
                    std::vector<std::string>{"h2", "http/1.1"} &&
                OurProfile(s).session_tickets;
       }},
      {"tls_profiles.min_version",
       "tls_profiles: [{name: a, min_version: '1.1'}]",
       [](const Settings& s) { return OurProfile(s).min_version == "1.1"; }},
      {"tls_profiles.max_version",
       "tls_profiles: [{name: a, max_version: '1.2'}]",
       [](const Settings& s) { return OurProfile(s).max_version == "1.2"; }},
      {"tls_profiles.ciphers", "tls_profiles: [{name: a, ciphers: [x, y]}]",
       [](const Settings& s) {
         return OurProfile(s).ciphers == std::vector<std::string>{"x", "y"};
       }},
      {"tls_profiles.groups", "tls_profiles: [{name: a, groups: [x, y]}]",
       [](const Settings& s) {
         return OurProfile(s).groups == std::vector<std::string>{"x", "y"};
       }},
      {"tls_profiles.signature_algorithms",
       "tls_profiles: [{name: a, signature_algorithms: [x]}]",
       [](const Settings& s) {
         return OurProfile(s).signature_algorithms.size() == 1;
       }},
      {"tls_profiles.alpn", "tls_profiles: [{name: a, alpn: [http/1.1]}]",
       [](const Settings& s) { return OurProfile(s).alpn.size() == 1; }},
      {"tls_profiles.grease", "tls_profiles: [{name: a, grease: true}]",
       [](const Settings& s) { return OurProfile(s).grease; }},
      {"tls_profiles.permute_extensions",
       "tls_profiles: [{name: a, permute_extensions: true}]",
       [](const Settings& s) { return OurProfile(s).permute_extensions; }},
      {"tls_profiles.certificate_compression",
       "tls_profiles: [{name: a, certificate_compression: [zlib]}]",
       [](const Settings& s) {
         return OurProfile(s).certificate_compression.size() == 1;
       }},
      {"tls_profiles.extra_extensions",
       "tls_profiles: [{name: a, extra_extensions: [status_request]}]",
       [](const Settings& s) {
         return OurProfile(s).extra_extensions.size() == 1;
       }},
      {"tls_profiles.session_tickets",
       "tls_profiles: [{name: a, session_tickets: false}]",
       [](const Settings& s) {
         return !s.upstream.tls_profiles.empty() &&
                !OurProfile(s).session_tickets;
       }},
      {"tls_profiles.client_certificate.cert_file",
       "tls_profiles: [{name: a, "
       "client_certificate: {cert_file: /c, key_file: /k}}]",
       [](const Settings& s) { return OurProfile(s).cert_file == "/c"; }},
      {"tls_profiles.client_certificate.key_file",
       "tls_profiles: [{name: a, "
       "client_certificate: {cert_file: /c, key_file: /k}}]",
       [](const Settings& s) { return OurProfile(s).key_file == "/k"; }},
      {"tls_profiles.ca_file", "tls_profiles: [{name: a, ca_file: /ca}]",
       [](const Settings& s) { return OurProfile(s).ca_file == "/ca"; }},
      {"tls_profiles.pins", "tls_profiles: [{name: a, pins: [x]}]",
       [](const Settings& s) { return OurProfile(s).pins.size() == 1; }},
      {"tls_profiles.allow_weak_certificates",
       "tls_profiles: [{name: a, allow_weak_certificates: true}]",
       [](const Settings& s) { return OurProfile(s).allow_weak_certificates; }},
      {"log.level", "log: {level: debug}",
       [](const Settings& s) { return s.log_level == LogLevel::kDebug; }},
      {"log.format", "log: {format: json}",
       [](const Settings& s) { return s.log_format == LogFormat::kJson; }},
      {"metrics.max_targets", "metrics: {max_targets: 7}",
       [](const Settings& s) { return s.metrics_max_targets == 7; }},
      {"shutdown_grace", "shutdown_grace: 0s",
       [](const Settings& s) { return s.shutdown_grace == seconds(0); }},
      {"tunnel.idle_timeout", "tunnel: {idle_timeout: 7s}",
       [](const Settings& s) {
         return s.broker.tunnel_idle_timeout == seconds(7);
       }},
  };
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
  const Settings defaults = DefaultSettings(2);
  for (const Row& row : Rows()) {
    paths.insert(row.path);
    EXPECT_FALSE(row.arrived(defaults)) << row.path << ": same as the default";
    EXPECT_TRUE(row.arrived(Parse(row.yaml))) << row.path;
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
    EXPECT_TRUE(HasRule(path)) << path;
  }
}

// All options but functions and compiled ones.
auto Values(const upstream::Options& options) {
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

auto Values(const BrokerSettings& settings) {
  const auto& [default_deadline, max_body_bytes, max_attempts,
               retry_budget_percent, forward_traceparent, lease_ttl,
               max_lease_ttl, tunnel_idle_timeout, session, tls_profiles,
               policy, overload, max_answer_bytes, targets, cool_down] =
      settings;
  return std::tuple(default_deadline, max_body_bytes, max_attempts,
                    retry_budget_percent, forward_traceparent, lease_ttl,
                    max_lease_ttl, tunnel_idle_timeout, session, tls_profiles,
                    policy == nullptr, overload.max_memory_bytes,
                    overload.max_calls, max_answer_bytes, targets, cool_down);
}

TEST(ConfigTest, TheEffectiveConfigurationIsOneAndMeansTheSame) {
  for (const Row& row : Rows()) {
    const Settings once = Parse(row.yaml);
    const Settings twice = Parse(once.effective_yaml);
    EXPECT_TRUE(row.arrived(twice)) << once.effective_yaml;
    EXPECT_EQ(once.effective_yaml, twice.effective_yaml);
    EXPECT_EQ(once.targets, twice.targets);
    EXPECT_EQ(once.default_target, twice.default_target);
    EXPECT_TRUE(Values(once.upstream) == Values(twice.upstream)) << row.path;
    EXPECT_TRUE(Values(once.broker) == Values(twice.broker)) << row.path;
    EXPECT_EQ(once.rewarm, twice.rewarm);
  }
}

TEST(ConfigTest, SectionsLeftEmptyAreLeftOut) {
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

TEST(ConfigTest, WhatAMachineHasDecidesWhatIsLeftToIt) {
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

TEST(ConfigTest, WhatIsWrongWithATlsProfileIsToldWithItsLine) {
  const std::string yaml =
      "upstream: {ca_file: /no}\n"
      "tls_profiles:\n"
      "- name: a\n"
      "  ciphers:\n"
      "  - good\n"
      "  - bad\n"
      "- name: b\n";
  std::vector<std::string> asked;
  const ConfigChecks checks{.tls_profile = [&](const net::TlsProfile& p) {
    asked.push_back(p.name);
    if (p.name.empty()) {
      EXPECT_EQ(p.ca_file, "/no");
      return std::vector<net::TlsFault>{{"ca_file", "is not there"}};
    }
    if (p.name == "b") return std::vector<net::TlsFault>{{"", "is all wrong"}};
    EXPECT_EQ(p.ca_file, "");
    return std::vector<net::TlsFault>{{"ciphers[1]", "is unknown"}};
  }};
  EXPECT_EQ(ParseConfig(yaml, "t.yaml", 2, checks).status().message(),
            "t.yaml:1: upstream.ca_file: is not there\n"
            "t.yaml:6: tls_profiles[0].ciphers[1]: is unknown\n"
            "t.yaml:7: tls_profiles[1]: is all wrong");
  EXPECT_EQ(asked, (std::vector<std::string>{"a", "b", ""}));
}

struct Bad {
  const char* yaml;
  const char* message;
};

class BadConfigTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadConfigTest, IsRefusedWithItsPlaceAndWhatIsWrong) {
  EXPECT_EQ(Fault(GetParam().yaml), GetParam().message) << GetParam().yaml;
}

INSTANTIATE_TEST_SUITE_P(
    Keys, BadConfigTest,
    ::testing::Values(
        Bad{"\n\n\n\n\npool:\n  max_conections: 3\n",
            "t.yaml:7: pool.max_conections: unknown key (did you mean "
            "max_connections?)"},
        Bad{"pol: {}", "t.yaml:1: pol: unknown key (did you mean pool?)"},
        Bad{"whatever: 1", "t.yaml:1: whatever: unknown key"},
        Bad{"targets:\n  - target: 'https://a.example'\n    waarm: 1\n",
            "t.yaml:3: targets[0].waarm: unknown key (did you mean warm?)"},
        Bad{"pool: {max_dials: 1}\nlog: {}\npool: {shards: 1}\n",
            "t.yaml:3: pool: given twice (first in line 1)"},
        Bad{"pool:\n  shards: 1\n  shards: 2\n",
            "t.yaml:3: pool.shards: given twice (first in line 2)"}));

INSTANTIATE_TEST_SUITE_P(
    TlsProfiles, BadConfigTest,
    ::testing::Values(
        Bad{"tls_profiles: [{grease: true}]",
            "t.yaml:1: tls_profiles[0].name: is required"},
        Bad{"tls_profiles: [{name: Upper}]",
            "t.yaml:1: tls_profiles[0].name: must be at most 64 bytes of "
            "[a-z0-9_-]"},
        Bad{"tls_profiles:\n- name: modern\n",
            "t.yaml:2: tls_profiles[0].name: modern is built in: choose "
            "another name"},
        Bad{"tls_profiles:\n- name: a\n- name: a\n",
            "t.yaml:3: tls_profiles[1].name: a is given twice"},
        Bad{"tls_profiles: [{name: a, min_version: '1.4'}]",
            "t.yaml:1: tls_profiles[0].min_version: must be one of 1.2, 1.3, "
            "1.1, 1.0; not \"1.4\""},
        Bad{"tls_profiles: [{name: a, client_certificate: {cert_file: /c}}]",
            "t.yaml:1: tls_profiles[0].client_certificate.key_file: is "
            "required"},
        Bad{"tls_profiles: [{name: a, client_certificate: {key_file: /k}}]",
            "t.yaml:1: tls_profiles[0].client_certificate.cert_file: is "
            "required"},
        Bad{"upstream: {tls_profile: nowhere}",
            "t.yaml:1: upstream.tls_profile: there is no TLS profile "
            "\"nowhere\"; there are chromium, compatible, default, modern"},
        Bad{"targets:\n- target: 'https://a.example'\n  tls_profile: b\n",
            "t.yaml:3: targets[0].tls_profile: there is no TLS profile \"b\"; "
            "there are chromium, compatible, default, modern"},
        Bad{"targets:\n- target: 'https://a.example'\n"
            "  tls_profiles: [modern, b]\n",
            "t.yaml:3: targets[0].tls_profiles[1]: there is no TLS profile "
            "\"b\"; there are chromium, compatible, default, modern"},
        Bad{"targets:\n- target: 'https://a.example'\n"
            "  tls_profiles: [modern, modern]\n",
            "t.yaml:3: targets[0].tls_profiles[1]: given twice"},
        Bad{"targets:\n- target: 'https://a.example'\n  tls_profiles: []\n",
            "t.yaml:3: targets[0].tls_profiles: must name at least one "
            "profile"},
        Bad{"targets:\n- target: 'https://a.example'\n"
            "  tls_profile: modern\n  tls_profiles: [default]\n",
            "t.yaml:4: targets[0].tls_profiles: has no meaning beside "
            "tls_profile"},
        Bad{"targets: [{target: 'http://a.example', tls_profile: modern}]",
            "t.yaml:1: targets[0].tls_profile: only with https and tls"},
        Bad{"targets: [{target: 'http://a.example', tls_profiles: [modern]}]",
            "t.yaml:1: targets[0].tls_profiles: only with https and tls"}));

INSTANTIATE_TEST_SUITE_P(
    Types, BadConfigTest,
    ::testing::Values(
        Bad{"[a]", "t.yaml:1: expected a mapping (key: value), not a list"},
        Bad{"just text",
            "t.yaml:1: expected a mapping (key: value), not just text"},
        Bad{"pool: 3",
            "t.yaml:1: pool: expected a mapping (key: value), not 3"},
        Bad{"targets: {target: x}",
            "t.yaml:1: targets: expected a list, not a mapping"},
        Bad{"targets: [x]",
            "t.yaml:1: targets[0]: expected a mapping (key: value), not x"},
        Bad{"listen: {grpc: '127.0.0.1:1'}",
            "t.yaml:1: listen.grpc: expected a list, not the text "
            "\"127.0.0.1:1\""},
        Bad{"listen: {grpc: [5]}",
            "t.yaml:1: listen.grpc[0]: expected text (in quotes), not 5"},
        Bad{"pool: {shards: '3'}",
            "t.yaml:1: pool.shards: expected a whole number, not the text "
            "\"3\""},
        Bad{"pool: {shards: 3.0}",
            "t.yaml:1: pool.shards: expected a whole number, not 3.0"},
        Bad{"pool: {shards: }",
            "t.yaml:1: pool.shards: expected a whole number, not nothing"},
        Bad{"pool: {shards: 0x10}",
            "t.yaml:1: pool.shards: expected a whole number, not 0x10"},
        Bad{"pool: {shards: 3000000000}",
            "t.yaml:1: pool.shards: 3000000000 is out of range"},
        Bad{"pool: {shards: 99999999999999999999}",
            "t.yaml:1: pool.shards: expected a whole number, not "
            "99999999999999999999"},
        Bad{"listen: {insecure: yes}",
            "t.yaml:1: listen.insecure: expected true or false, not yes"},
        Bad{"listen: {insecure: 'true'}",
            "t.yaml:1: listen.insecure: expected true or false, not the text "
            "\"true\""},
        Bad{"log: {level: true}",
            "t.yaml:1: log.level: expected text (in quotes), not true"},
        Bad{"upstream: {ca_file: \"a\\0b\"}",
            "t.yaml:1: upstream.ca_file: must not contain a NUL"}));

constexpr char kNoDuration[] =
    "t.yaml:1: pool.idle_timeout: expected a duration in seconds such as "
    "\"45s\", not ";

TEST(ConfigTest, DurationsAreSecondsWithTheirUnit) {
  for (const char* text : {"45", "1m", "45ms", "s", ".5s", "1.s", "1e3s",
                           "1.0000000001s", "1 s", "+1s", "--1s", "4 5s"}) {
    EXPECT_EQ(Fault(absl::StrCat("pool: {idle_timeout: ", text, "}")),
              absl::StrCat(kNoDuration, text));
  }
  EXPECT_EQ(Fault("pool: {idle_timeout: ''}"),
            absl::StrCat(kNoDuration, "the text \"\""));
  EXPECT_EQ(Parse("pool: {idle_timeout: 1.000000001s}")
                .default_target.pool.idle_timeout,
            Duration(1'000'000'001));
}

INSTANTIATE_TEST_SUITE_P(
    Ranges, BadConfigTest,
    ::testing::Values(
        Bad{"pool: {max_connections: 0}",
            "t.yaml:1: pool.max_connections: must be 1 to 1000000, not 0"},
        Bad{"pool: {max_connections: -1}",
            "t.yaml:1: pool.max_connections: must be 1 to 1000000, not -1"},
        Bad{"pool: {max_waiters_per_target: 1000001}",
            "t.yaml:1: pool.max_waiters_per_target: must be 0 to 1000000, not "
            "1000001"},
        Bad{"pool: {idle_timeout: 0.05s}",
            "t.yaml:1: pool.idle_timeout: must be 0.1s to 31536000s, not "
            "0.05s"},
        Bad{"pool: {max_lifetime: -3s}",
            "t.yaml:1: pool.max_lifetime: must be 1s to 31536000s, not -3s"},
        Bad{"pool: {max_lifetime: 999999999999s}",
            "t.yaml:1: pool.max_lifetime: must be 1s to 31536000s, not "
            "3153600001s"},
        Bad{"upstream: {max_header_bytes: 1023}",
            "t.yaml:1: upstream.max_header_bytes: must be 1024 to 1048576, "
            "not 1023"},
        Bad{"execute: {max_body_bytes: 3145729}",
            "t.yaml:1: execute.max_body_bytes: must be 1 to 3145728, not "
            "3145729"},
        Bad{"execute: {max_attempts: 11}",
            "t.yaml:1: execute.max_attempts: must be 1 to 10, not 11"},
        Bad{"execute: {retry_budget_percent: 101}",
            "t.yaml:1: execute.retry_budget_percent: must be 0 to 100, not "
            "101"},
        Bad{"metrics: {max_targets: 0}",
            "t.yaml:1: metrics.max_targets: must be 1 to 10000, not 0"},
        Bad{"egress: {default: all}",
            "t.yaml:1: egress.default: must be one of public, none; not "
            "\"all\""},
        Bad{"log: {level: INFO}",
            "t.yaml:1: log.level: must be one of info, debug, warning, error; "
            "not \"INFO\""},
        Bad{"targets: [{target: 'http://a.example', probe: {kind: ping}}]",
            "t.yaml:1: targets[0].probe.kind: must be one of http, tcp, none; "
            "not \"ping\""}));

INSTANTIATE_TEST_SUITE_P(
    Addresses, BadConfigTest,
    ::testing::Values(
        Bad{"listen:\n  grpc: ['127.0.0.1:1', '0.0.0.0:50051']\n",
            "t.yaml:2: listen.grpc[1]: 0.0.0.0:50051 can be reached from the "
            "network, without TLS and without identity: use listen.tls, "
            "loopback or a Unix socket, or allow it with listen.insecure: "
            "true"},
        Bad{"listen: {grpc: ['0.0.0.0:1'], insecure: true, tls: {cert_file: c, "
            "key_file: k, client_ca_file: a}}",
            "t.yaml:1: listen.insecure: has no meaning together with "
            "listen.tls"},
        Bad{"listen: {grpc: ['0.0.0.0:1'], tls: {cert_file: c, key_file: k}}",
            "t.yaml:1: listen.tls.client_ca_file: is required"},
        Bad{"listen: {allowed_uids: [1000, -1]}",
            "t.yaml:1: listen.allowed_uids[1]: must be 0 to 4294967294, not "
            "-1"},
        Bad{"policy: {rules: [{identities: ['*'], snis: [a.b]}]}",
            "t.yaml:1: policy.rules[0].snis: has no meaning without targets: "
            "without them every one is allowed"},
        Bad{"policy: {rules: [{identities: ['*'], remote_ips: ['::/0']}]}",
            "t.yaml:1: policy.rules[0].remote_ips: has no meaning without "
            "targets: without them every one is allowed"},
        Bad{"policy: {rules: [{identities: ['*'], targets: ['https://a'], "
            "snis: ['a b']}]}",
            "t.yaml:1: policy.rules[0].snis[0]: must be a DNS name, \"*\" in "
            "it for any characters"},
        Bad{"policy: {rules: [{identities: ['*'], targets: ['https://a'], "
            "remote_ips: ['10.0.0.0/33']}]}",
            "t.yaml:1: policy.rules[0].remote_ips[0]: not a CIDR (10.0.0.0/8) "
            "or an address"},
        Bad{"policy: {rules: [{rpcs: [Execute]}]}",
            "t.yaml:1: policy.rules[0].identities: is required"},
        Bad{"policy: {rules: [{identities: [root]}]}",
            "t.yaml:1: policy.rules[0].identities[0]: must be "
            "\"spiffe://…\", \"dns:…\", \"cn:…\", \"uid:…\", \"*\" or "
            "\"anonymous\""},
        Bad{"policy:\n  rules:\n  - identities: ['*']\n    targets: [a.test]",
            "t.yaml:4: policy.rules[0].targets[0]: must be a target such as "
            "\"https://*.example.com\" or \"https://10.0.0.1:8443\", \"*\" as "
            "a port for any"},
        Bad{"listen: {allowed_uids: [root]}",
            "t.yaml:1: listen.allowed_uids[0]: expected a whole number, not "
            "root"},
        Bad{"listen: {grpc: ['[::]:1']}",
            "t.yaml:1: listen.grpc[0]: [::]:1 can be reached from the network, "
            "without TLS and without identity: use listen.tls, loopback or a "
            "Unix socket, or allow it with listen.insecure: true"},
        Bad{"listen: {grpc: ['localhost:1']}",
            "t.yaml:1: listen.grpc[0]: must be a numeric address and a port "
            "such as 127.0.0.1:50051 or [::1]:50051, or unix:///path"},
        Bad{"listen: {grpc: ['127.0.0.1:65536']}",
            "t.yaml:1: listen.grpc[0]: must be a numeric address and a port "
            "such as 127.0.0.1:50051 or [::1]:50051, or unix:///path"},
        Bad{"listen: {grpc: ['unix:run/x']}",
            "t.yaml:1: listen.grpc[0]: a Unix socket is written unix:///path"},
        Bad{"listen: {grpc: []}",
            "t.yaml:1: listen.grpc: must name at least one address"},
        Bad{"listen: {grpc: ['127.0.0.1:1', '127.0.0.1:1']}",
            "t.yaml:1: listen.grpc[1]: given twice"},
        Bad{"listen: {http: '9464'}",
            "t.yaml:1: listen.http: must be a numeric address and a port such "
            "as 127.0.0.1:9464, or empty"},
        Bad{"listen: {grpc: ['127.0.0.1:1'], http: '127.0.0.1:1'}",
            "t.yaml:1: listen.http: is a gRPC listener's address"},
        Bad{"listen: {admin: '0.0.0.0:50052'}",
            "t.yaml:1: listen.admin: 0.0.0.0:50052 can be reached from the "
            "network: the control plane is served on loopback or a Unix socket "
            "only, such as 127.0.0.1:50052"},
        Bad{"listen: {insecure: true, grpc: ['0.0.0.0:1'], admin: '[::]:1'}",
            "t.yaml:1: listen.admin: [::]:1 can be reached from the network: "
            "the control plane is served on loopback or a Unix socket only, "
            "such as 127.0.0.1:50052"},
        Bad{"listen: {admin: 'localhost:1'}",
            "t.yaml:1: listen.admin: must be a numeric address and a port such "
            "as 127.0.0.1:50051 or [::1]:50051, or unix:///path"},
        Bad{"listen: {admin: 'unix:run/x'}",
            "t.yaml:1: listen.admin: a Unix socket is written unix:///path"},
        Bad{"listen: {admin: '127.0.0.1:50051'}",
            "t.yaml:1: listen.admin: 127.0.0.1:50051 is another listener's "
            "address: use a different one, or \"\" for none"},
        Bad{"listen: {grpc: ['unix:///h.sock'], admin: 'unix:///h.sock'}",
            "t.yaml:1: listen.admin: unix:///h.sock is another listener's "
            "address: use a different one, or \"\" for none"},
        Bad{"listen:\n  http: '127.0.0.1:1'\n  admin: '127.0.0.1:1'\n",
            "t.yaml:3: listen.admin: 127.0.0.1:1 is another listener's "
            "address: use a different one, or \"\" for none"},
        Bad{"upstream: {dns_servers: [dns.example]}",
            "t.yaml:1: upstream.dns_servers[0]: must be a numeric address, "
            "with a port or without"},
        Bad{"upstream: {source_addresses: ['192.0.2.1', 'eth0']}",
            "t.yaml:1: upstream.source_addresses[1]: must be a numeric "
            "address"},
        Bad{"upstream: {eject_max: 29s}",
            "t.yaml:1: upstream.eject_max: must not be shorter than "
            "upstream.eject_base (30s)"},
        Bad{"targets: [{target: 'https://a.example', proxy: 'https://p:1'}]",
            "t.yaml:1: targets[0].proxy: must be http://host:port, with "
            "nothing after it"},
        Bad{"targets: [{target: 'https://a.example', proxy: 'http://p/x'}]",
            "t.yaml:1: targets[0].proxy: must be http://host:port, with "
            "nothing after it"},
        Bad{"egress: {allow: ['10.0.0.0/33']}",
            "t.yaml:1: egress.allow[0]: not a CIDR such as 10.0.0.0/8"},
        Bad{"egress: {deny: ['a.example', '10.0.0.300']}",
            "t.yaml:1: egress.deny[1]: not a CIDR (10.0.0.0/8), an address, or "
            "a host pattern (*.example.com)"}));

INSTANTIATE_TEST_SUITE_P(
    Targets, BadConfigTest,
    ::testing::Values(
        Bad{"targets: [{warm: 1}]", "t.yaml:1: targets[0].target: is required"},
        Bad{"targets:\n  - target: 'https://a.example'\n"
            "  - target: 'https://A.example:443'\n",
            "t.yaml:3: targets[1].target: https://a.example:443 is given twice "
            "(first in line 2)"},
        Bad{"targets:\n  - target: 'https://a.example'\n    warm: 11\n",
            "t.yaml:3: targets[0].warm: must be at most the target's "
            "max_connections (10), not 11"},
        Bad{"targets:\n  - target: 'https://a.example'\n    cool_down:\n"
            "      statuses: [429, 299]\n",
            "t.yaml:4: targets[0].cool_down.statuses[1]: must be 300 to 599, "
            "not 299"},
        Bad{"targets:\n  - target: 'https://a.example'\n    cool_down:\n"
            "      statuses: ['429']\n",
            "t.yaml:4: targets[0].cool_down.statuses[0]: expected a whole "
            "number, not the text \"429\""},
        Bad{"targets:\n  - target: 'https://a.example'\n    warm_max: 11\n",
            "t.yaml:3: targets[0].warm_max: must be at most the target's "
            "max_connections (10), not 11"},
        Bad{"targets:\n  - target: 'https://a.example'\n"
            "    validate: {method: GET}\n",
            "t.yaml:3: targets[0].validate.path: is required"},
        Bad{"targets:\n  - target: 'https://a.example'\n"
            "    validate: {path: health}\n",
            "t.yaml:3: targets[0].validate.path: must start with \"/\" and "
            "have visible ASCII without \"#\" only, 2048 bytes at most"},
        Bad{"targets:\n  - target: 'https://a.example'\n"
            "    validate: {path: /, min_status: 400}\n",
            "t.yaml:3: targets[0].validate.min_status: must not be above "
            "max_status (399), as 400 is"},
        Bad{"targets:\n  - target: 'https://a.example'\n"
            "    probe: {kind: tcp, path: /}\n",
            "t.yaml:3: targets[0].probe.path: has no meaning with kind: tcp"},
        Bad{"pool: {lease_ttl: 20s, max_lease_ttl: 10s}",
            "t.yaml:1: pool.lease_ttl: must not be longer than "
            "pool.max_lease_ttl (10s)"}));

TEST(ConfigTest, AWrongTargetIsRefused) {
  for (const char* target :
       {"a.example", "ftp://a.example", "https://a.example/path", "https://",
        "https://:1", "https://a.example:0", "https://a b"}) {
    const std::string fault =
        Fault(absl::StrCat("targets: [{target: '", target, "'}]"));
    EXPECT_TRUE(fault.starts_with("t.yaml:1: targets[0].target: ")) << fault;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Yaml, BadConfigTest,
    ::testing::Values(
        Bad{"pool:\n  a: [1\n",
            "t.yaml:3: not YAML: end of sequence flow not found"},
        Bad{"pool:\n\t- x\n", "t.yaml:2: not YAML: illegal block entry"},
        Bad{"a: &x {}\n", "t.yaml:1: anchors (&name) are not supported"},
        Bad{"log: {level: info}\npool: *x\n",
            "t.yaml:2: not YAML: the referenced anchor is not defined"},
        Bad{"pool: {shards: !!int 3}",
            "t.yaml:1: tags (!name) are not supported"},
        Bad{"? [a]\n: 1\n", "t.yaml:1: a key must be a word"},
        Bad{"log: {}\n---\npool: {}\n",
            "t.yaml:2: a second document (---) begins"}));

TEST(ConfigTest, WhatWouldExplodeIsRefusedAtOnce) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "- ";
  EXPECT_EQ(Fault(deep), "t.yaml:1: nested deeper than 16 levels");
  EXPECT_EQ(Fault("a: " + std::string(20, '{') + std::string(20, '}')),
            "t.yaml:1: a key must be a word");
  EXPECT_NE(Fault(std::string(100'000, '[')), "accepted");
  EXPECT_EQ(Fault(std::string((1 << 20) + 1, '#')),
            "t.yaml:1: larger than 1048576 bytes");
  std::string many = "a: [";
  for (int i = 0; i < 200'000; ++i) many += "1, ";
  EXPECT_EQ(Fault(many + "]"), "t.yaml:1: more than 100000 values");
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

TEST(ConfigTest, AnyFileIsRefusedWithItsLineOrMeansWhatItsEffectiveFormMeans) {
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

TEST(ConfigTest, AllFaultsAreToldInTheFilesOrder) {
  EXPECT_EQ(Fault("pool:\n  max_dials: 0\n  shards: x\nlog: {level: loud}\n"),
            "t.yaml:2: pool.max_dials: must be 1 to 1000000, not 0\n"
            "t.yaml:3: pool.shards: expected a whole number, not x\n"
            "t.yaml:4: log.level: must be one of info, debug, warning, error; "
            "not \"loud\"");
  std::string many;
  for (int i = 0; i < 50; ++i)
    absl::StrAppend(&many, "unknown_key", i, ": 1\n");
  const std::string fault = Fault(many);
  EXPECT_EQ(std::count(fault.begin(), fault.end(), '\n'), 20);
  EXPECT_TRUE(fault.ends_with("\nt.yaml: and 30 more faults")) << fault;
}

TEST(ConfigTest, WhatIsProbablyNotMeantIsWarnedOf) {
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
                "t.yaml:3: pool.max_connections_per_target: more than "
                "pool.max_connections (5), which is the limit that applies",
                "t.yaml:4: targets: warm connections add up to 6, more than "
                "pool.max_connections (5)",
                "t.yaml:6: targets[0].max_connections: more than "
                "pool.max_connections (5), which is the limit that applies"}));
  EXPECT_EQ(
      Parse("tls_profiles: [{name: a, min_version: '1.1'}]").warnings,
      (std::vector<std::string>{
          "t.yaml:1: tls_profiles[0].min_version: TLS 1.0 and 1.1 are broken "
          "in known ways (RFC 8996)"}));
}

TEST(ConfigTest, AFileIsReadAndNamedInItsFaults) {
  const std::string path = testing::TempDir() + "/config.yaml";
  std::ofstream(path) << "pool: {max_connections: 3}\n";
  const auto settings = LoadConfig(path);
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->pool.max_connections, 3);
  std::ofstream(path) << "pol: {}\n";
  EXPECT_EQ(LoadConfig(path).status().message(),
            path + ":1: pol: unknown key (did you mean pool?)");
  std::ofstream(path) << std::string(2 << 20, '#');
  EXPECT_EQ(LoadConfig(path).status().message(),
            path + ":1: larger than 1048576 bytes");
}

TEST(ConfigTest, KeysThatWaitForAStartAreNamed) {
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
  const std::string missing = testing::TempDir() + "/no-such-file.yaml";
  const auto status = LoadConfig(missing).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("no-such-file.yaml"), std::string::npos);
  EXPECT_FALSE(LoadConfig(testing::TempDir()).ok());
}

}  // namespace
}  // namespace hotline::server
