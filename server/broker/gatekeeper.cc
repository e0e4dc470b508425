#include "server/broker/gatekeeper.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace hotline::server {
namespace {

std::string_view NameOf(RpcMethod rpc) {
  return kRuledMethods[static_cast<size_t>(rpc)];
}

// "uid:1000 may not call Execute on https://… with the SNI …".
std::string Described(std::string_view who, RpcMethod rpc,
                      const Destination& to) {
  std::string out(who.empty() ? "a caller without an identity" : who);
  out.append(" may not call ").append(NameOf(rpc));
  if (!to.target.empty()) out.append(" on ").append(to.target);
  if (!to.remote_ip.empty()) out.append(" at ").append(to.remote_ip);
  if (!to.sni.empty()) out.append(" with the SNI ").append(to.sni);
  return out;
}

// A token bucket of one second's requests. Returns zero if the request may
// proceed, else how long the caller should wait.
Duration WaitForRate(const Identity& who, int per_second, Instant now) {
  const int64_t interval = 1'000'000'000 / per_second;
  const int64_t burst = std::max<int64_t>(1'000'000'000 - interval, 0);
  const int64_t now_ns = now.time_since_epoch().count();
  int64_t next = who.next_request_ns.load(std::memory_order_relaxed);
  for (;;) {
    if (next - burst > now_ns) return Duration(next - burst - now_ns);
    const int64_t after = std::max(next, now_ns) + interval;
    if (who.next_request_ns.compare_exchange_weak(next, after,
                                                  std::memory_order_relaxed)) {
      return Duration(0);
    }
  }
}

}  // namespace

bool QuotaToken::Take(const IdentityPtr& identity, std::atomic<int>* counter,
                      int most) {
  const int before = counter->fetch_add(1, std::memory_order_relaxed);
  if (most > 0 && before >= most) {
    counter->fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  identity_ = identity;
  counter_ = counter;
  return true;
}

ErrorPtr Gatekeeper::Check(const Policy& policy, RpcMethod rpc,
                           const IdentityPtr& who, const Destination& to,
                           Instant now, Quota* quota) {
  const std::string_view name = NameOf(who);
  const Decision decision = policy.Decide(name, rpc, to);
  if (!decision.allowed) {
    const bool anonymous = who == nullptr;
    Audit(anonymous ? Denial::kNoIdentity : Denial::kNotAuthorized, rpc, who,
          to);
    return MakeError(
        anonymous ? Reason("NO_IDENTITY") : Reason("NOT_AUTHORIZED"),
        Described(name, rpc, to));
  }
  *quota = decision.quota;
  // Release is never limited.
  if (quota->requests_per_second == 0 || rpc == RpcMethod::kRelease) {
    return nullptr;
  }
  const Duration wait =
      WaitForRate(*Accountable(who), quota->requests_per_second, now);
  if (wait <= Duration(0)) return nullptr;
  return OverQuota(rpc, who, to, "requests_per_second",
                   quota->requests_per_second, wait);
}

ErrorPtr Gatekeeper::OverQuota(RpcMethod rpc, const IdentityPtr& who,
                               const Destination& to, std::string_view limit,
                               int64_t most, Duration retry_after) {
  Audit(Denial::kQuota, rpc, who, to);
  ErrorPtr error = MakeError(
      "QUOTA", absl::StrCat("the policy's ", std::string(limit), " is ", most));
  error->metadata.emplace_back("limit", limit);
  error->metadata.emplace_back("value", absl::StrCat(most));
  error->retry_after = retry_after;
  return error;
}

void Gatekeeper::Note(RpcMethod rpc, const IdentityPtr& who,
                      const Error& error) {
  if (error.reason == "LEASE_NOT_YOURS") Audit(Denial::kNotYours, rpc, who, "");
}

void Gatekeeper::Audit(Denial denial, RpcMethod rpc, const IdentityPtr& who,
                       const Destination& to) {
  denials_[static_cast<size_t>(rpc)][static_cast<size_t>(denial)].fetch_add(
      1, std::memory_order_relaxed);
  Accountable(who)->denials.fetch_add(1, std::memory_order_relaxed);
  static LogLimiter limiter(std::chrono::milliseconds(100));
  HOTLINE_LOG_LIMITED(limiter, kWarning, "denied",
                      {{"identity", NameOf(who)},
                       {"method", NameOf(rpc)},
                       {"target", to.target},
                       {"reason", kDenials[static_cast<size_t>(denial)]},
                       {"sni", to.sni},
                       {"remote_ip", to.remote_ip},
                       {"suppressed", limiter.TakeSuppressed()}});
}

}  // namespace hotline::server
