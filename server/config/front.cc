#include "server/config/front.h"

#include <sys/un.h>

#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/socket_address.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

// What is wrong with a gRPC listener's address, "" if nothing is. `reachable`:
// whether other machines can connect to it.
std::string CheckGrpcListener(const std::string& text, bool* reachable) {
  *reachable = false;
  if (text.starts_with("unix:")) {
    if (!text.starts_with("unix:///") || text.size() < 9) {
      return "a Unix socket is written unix:///path";
    }
    const size_t length = text.size() - std::strlen("unix://");
    constexpr size_t kMost = sizeof(sockaddr_un::sun_path) - 1;
    if (length > kMost) {
      return absl::StrCat("the socket's path has ", length,
                          " bytes, more than the system's ", kMost);
    }
    return "";
  }
  const auto address = ParseSocketAddress(text);
  if (!address) {
    return "must be a numeric address and a port such as 127.0.0.1:50051 or "
           "[::1]:50051, or unix:///path";
  }
  *reachable = !address->loopback;
  return "";
}

// Fills the addresses of `listen.grpc` and adds them to `taken`; returns
// whether other machines can connect to any.
bool ResolveGrpc(v1::Listen* listen, const ConfigReport& report,
                 std::set<std::string>* taken, std::vector<std::string>* out) {
  if (listen->grpc_size() == 0) {
    if (report.Given("listen.grpc")) {
      report.Fault("listen.grpc", "must name at least one address");
    }
    listen->add_grpc("127.0.0.1:50051");
  }
  *out = ToVector(listen->grpc());
  bool any_reachable = false;
  for (size_t i = 0; i < out->size(); ++i) {
    const std::string& text = (*out)[i];
    const std::string path = absl::StrCat("listen.grpc[", i, "]");
    bool reachable = false;
    const std::string wrong = CheckGrpcListener(text, &reachable);
    if (!wrong.empty()) {
      report.Fault(path, wrong);
    } else if (reachable && !listen->insecure() && !listen->has_tls()) {
      report.Fault(path,
                   absl::StrCat(text,
                                " can be reached from the network, "
                                "without TLS and without identity: use "
                                "listen.tls, loopback or a Unix socket, "
                                "or allow it with listen.insecure: "
                                "true"),
                   {"listen.insecure", "listen.tls"});
    } else if (!text.ends_with(":0") && !taken->insert(text).second) {
      report.Fault(path, "given twice");
    }
    any_reachable = any_reachable || reachable;
  }
  return any_reachable;
}

void ResolveHttp(v1::Listen* listen, const ConfigReport& report,
                 std::set<std::string>* taken) {
  if (!listen->has_http()) listen->set_http("127.0.0.1:9464");
  const std::string& text = listen->http();
  if (text.empty()) return;
  if (!ParseSocketAddress(text)) {
    report.Fault("listen.http",
                 "must be a numeric address and a port such as "
                 "127.0.0.1:9464, or empty");
  } else if (!text.ends_with(":0") && !taken->insert(text).second) {
    report.Fault("listen.http", "is a gRPC listener's address");
  }
}

void ResolveAdmin(v1::Listen* listen, const ConfigReport& report,
                  const std::set<std::string>& taken) {
  if (!listen->has_admin()) listen->set_admin("127.0.0.1:50052");
  const std::string& text = listen->admin();
  if (text.empty()) return;
  bool reachable = false;
  const std::string wrong = CheckGrpcListener(text, &reachable);
  if (!wrong.empty()) {
    report.Fault("listen.admin", wrong);
  } else if (reachable) {
    report.Fault("listen.admin",
                 absl::StrCat(text,
                              " can be reached from the network: the control "
                              "plane is served on loopback or a Unix socket "
                              "only, such as 127.0.0.1:50052"));
  } else if (taken.contains(text)) {
    report.Fault("listen.admin",
                 absl::StrCat(text,
                              " is another listener's address: use a "
                              "different one, or \"\" for none"));
  }
}

void ResolveTls(const v1::Listen& in, bool any_reachable,
                const ConfigReport& report, TlsFiles* out) {
  if (!in.has_tls()) return;
  *out = {in.tls().cert_file(), in.tls().key_file(), in.tls().client_ca_file()};
  const std::pair<const char*, const std::string&> files[] = {
      {"cert_file", out->cert_file},
      {"key_file", out->key_file},
      {"client_ca_file", out->client_ca_file}};
  for (const auto& [key, file] : files) {
    if (!file.empty()) continue;
    report.Fault(absl::StrCat("listen.tls.", key), "is required");
  }
  if (in.insecure()) {
    report.Fault("listen.insecure", "has no meaning together with listen.tls");
  }
  if (!any_reachable) {
    report.Warn("listen.tls",
                "is not used: every listener is loopback or a Unix socket, "
                "which are served without TLS");
  }
}

}  // namespace

void ResolveListen(v1::Listen* listen, const ConfigReport& report,
                   Settings* out) {
  FrontOptions& front = out->front;
  const v1::Listen& in = *listen;
  std::set<std::string> taken;
  const bool any_reachable =
      ResolveGrpc(listen, report, &taken, &front.door.addresses);
  ResolveHttp(listen, report, &taken);
  ResolveAdmin(listen, report, taken);
  out->http_listen = in.http();
  front.door.allowed_uids = {in.allowed_uids().begin(),
                             in.allowed_uids().end()};
  front.door.allowed_gids = {in.allowed_gids().begin(),
                             in.allowed_gids().end()};
  out->admin.address = in.admin();
  out->admin.allowed_uids = front.door.allowed_uids;
  out->admin.allowed_gids = front.door.allowed_gids;
  front.door.max_connections = in.max_connections();
  front.door.max_connections_per_peer = in.max_connections_per_peer();
  front.handshake_timeout = FromProto(in.handshake_timeout());
  front.max_resets_per_second = in.max_resets_per_second();
  ResolveTls(in, any_reachable, report, &front.tls);
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
    if (out.identities.empty()) {
      report.Fault(path + ".identities", "is required");
    }
    report.CheckEach(path + ".identities", out.identities,
                     CheckIdentityPattern);
    report.CheckEach(path + ".targets", out.targets, CheckTargetPattern);
    report.CheckEach(path + ".snis", out.snis, CheckSniPattern);
    report.CheckEach(path + ".remote_ips", out.remote_ips, CheckAddressRange);
    report.WarnOfHostBits(path + ".remote_ips", out.remote_ips);
    report.CheckEach(path + ".rpcs", out.rpcs, CheckRpcName);
    if (!out.targets.empty()) continue;
    constexpr char kIdle[] =
        "has no meaning without targets: without them every one is allowed";
    const std::string targets = path + ".targets";
    if (!out.snis.empty()) report.Fault(path + ".snis", kIdle, {targets});
    if (!out.remote_ips.empty()) {
      report.Fault(path + ".remote_ips", kIdle, {targets});
    }
  }
}

}  // namespace hotline::server
