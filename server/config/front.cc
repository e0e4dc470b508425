#include "server/config/front.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/socket_address.h"
#include "server/broker/proto_time.h"
#include "server/config/rules.h"

namespace hotline::server {
namespace {

std::vector<std::string> ToVector(
    const google::protobuf::RepeatedPtrField<std::string>& in) {
  return {in.begin(), in.end()};
}

void CheckWords(const ConfigReport& report, const std::string& path,
                const std::vector<std::string>& words,
                std::string (*check)(const std::string&)) {
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string wrong = check(words[i]);
    if (!wrong.empty()) report.Fault(absl::StrCat(path, "[", i, "]"), wrong);
  }
}

}  // namespace

void ConfigReport::Fault(const std::string& path,
                         const std::string& text) const {
  faults->Add(LineOf(lines, path), path, text);
}

void ConfigReport::Warn(const std::string& path,
                        const std::string& text) const {
  warnings->Add(LineOf(lines, path), path, text);
}

void ResolveFrontDoor(const v1::Listen& in, bool any_reachable,
                      const ConfigReport& report, ListenSettings* settings) {
  ListenSettings& out = *settings;
  out.allowed_uids.assign(in.allowed_uids().begin(), in.allowed_uids().end());
  out.allowed_gids.assign(in.allowed_gids().begin(), in.allowed_gids().end());
  out.max_connections = in.max_connections();
  out.max_connections_per_peer = in.max_connections_per_peer();
  out.handshake_timeout = FromProto(in.handshake_timeout());
  out.max_resets_per_second = in.max_resets_per_second();
  if (!in.has_tls()) return;
  const std::pair<const char*, const std::string&> files[] = {
      {"cert_file", in.tls().cert_file()},
      {"key_file", in.tls().key_file()},
      {"client_ca_file", in.tls().client_ca_file()}};
  for (const auto& [key, file] : files) {
    if (file.empty()) {
      report.Fault(absl::StrCat("listen.tls.", key), "is required");
    }
  }
  out.cert_file = in.tls().cert_file();
  out.key_file = in.tls().key_file();
  out.client_ca_file = in.tls().client_ca_file();
  if (in.insecure()) {
    report.Fault("listen.insecure", "has no meaning together with listen.tls");
  }
  if (!any_reachable) {
    report.Warn(
        "listen.tls",
        "serves nobody: every listener is loopback or a Unix socket, which "
        "are without TLS");
  }
}

void ResolvePolicy(const v1::Policy& policy, const ConfigReport& report,
                   PolicyRules* rules) {
  rules->allow_by_default = policy.default_() == "allow";
  for (int i = 0; i < policy.rules_size(); ++i) {
    const v1::PolicyRule& in = policy.rules(i);
    const std::string path = absl::StrCat("policy.rules[", i, "]");
    PolicyRule& out = rules->rules.emplace_back();
    out.identities = ToVector(in.identities());
    out.targets = ToVector(in.targets());
    out.snis = ToVector(in.snis());
    out.remote_ips = ToVector(in.remote_ips());
    out.rpcs = ToVector(in.rpcs());
    out.quota = {in.max_leases(), in.max_waiters(), in.requests_per_second()};
    out.all_leases = in.all_leases();
    if (out.identities.empty())
      report.Fault(path + ".identities", "is required");
    CheckWords(report, path + ".identities", out.identities,
               CheckIdentityPattern);
    CheckWords(report, path + ".targets", out.targets, CheckTargetPattern);
    CheckWords(report, path + ".snis", out.snis, CheckSniPattern);
    CheckWords(report, path + ".remote_ips", out.remote_ips, CheckAddressRange);
    CheckWords(report, path + ".rpcs", out.rpcs, CheckRpcName);
    if (!out.targets.empty()) continue;
    constexpr char kIdle[] =
        "has no meaning without targets: without them every one is allowed";
    if (!out.snis.empty()) report.Fault(path + ".snis", kIdle);
    if (!out.remote_ips.empty()) report.Fault(path + ".remote_ips", kIdle);
  }
}

}  // namespace hotline::server
