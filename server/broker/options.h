// The options of the use cases; filled by config.
//
// Plain values, and checks of the patterns of a policy, so that config can
// refuse a rule that CompilePolicy would not accept.
#ifndef HOTLINE_SERVER_BROKER_OPTIONS_H_
#define HOTLINE_SERVER_BROKER_OPTIONS_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"

namespace hotline::server {

class CallObserver;  // In call_record.h.
class Policy;

// The limits of one caller, over all its calls. 0: no limit.
struct Quota {
  int max_leases = 0;   // Held, or waited for by Acquire.
  int max_waiters = 0;  // Calls in line for a connection.
  int requests_per_second = 0;

  friend bool operator==(const Quota&, const Quota&) = default;
};

struct PolicyRule {
  // Patterns, each of which must match the whole name of an identity; "*"
  // matches any characters. Only "anonymous" matches callers without an
  // identity.
  std::vector<std::string> identities;
  // Patterns of targets. "*" in the host matches any characters; "*" as the
  // scheme or port matches any. Empty: all targets. If a call sets an SNI or
  // address other than the target's host, that must match one of these as well,
  // or one of `snis` or `remote_ips`.
  std::vector<std::string> targets;
  // Patterns of server names; "*" matches any characters.
  std::vector<std::string> snis;
  // CIDRs and addresses.
  std::vector<std::string> remote_ips;
  // Names of RPCs. Empty: all.
  std::vector<std::string> rpcs;
  Quota quota;
  bool all_leases = false;  // Stats shows all callers' leases.

  friend bool operator==(const PolicyRule&, const PolicyRule&) = default;
};

struct PolicyRules {
  bool allow_by_default = true;
  std::vector<PolicyRule> rules;

  friend bool operator==(const PolicyRules&, const PolicyRules&) = default;
};

// Return what is wrong with a pattern or name in a rule; empty if it is valid.
std::string CheckIdentityPattern(const std::string& text);
std::string CheckTargetPattern(const std::string& text);
std::string CheckSniPattern(const std::string& text);
std::string CheckRpcName(const std::string& text);

// Returns null if `rules` allow everything to every caller. REQUIRES: their
// patterns pass the checks above.
std::shared_ptr<const Policy> CompilePolicy(const PolicyRules& rules);

struct OverloadLimits {
  int64_t max_memory_bytes = 0;  // Of the process; 0: no limit.
  int max_calls = 10'000;        // Waiting and running.
};

// Which answers take the address they came from out of service for a while.
struct CoolDownSettings {
  // Statuses that make an address cool down; empty: none.
  std::vector<int> statuses;
  // Obey `Retry-After` of a 429 or 503, whatever `statuses` contains.
  bool retry_after = false;
  Duration length{0};      // Without a Retry-After.
  Duration max_length{0};  // Limits any Retry-After.

  friend bool operator==(const CoolDownSettings&,
                         const CoolDownSettings&) = default;
};

// The limits of each session; see config.proto.
struct SessionLimits {
  int max_items_per_message = 1024;
  int max_items_in_flight = 1024;
  int max_leases = 1024;
  int64_t max_buffered_bytes = 32 << 20;

  friend bool operator==(const SessionLimits&, const SessionLimits&) = default;
};

// The settings of a Broker. They can change while the process runs.
struct BrokerSettings {
  Duration default_deadline = std::chrono::seconds(30);
  int64_t max_body_bytes = 3 << 20;
  int max_attempts = 3;
  int retry_budget_percent = 20;
  bool forward_traceparent = false;
  Duration lease_ttl = std::chrono::seconds(30);
  Duration max_lease_ttl = std::chrono::minutes(10);
  Duration tunnel_idle_timeout = std::chrono::minutes(5);
  SessionLimits session;
  // Names of the TLS profiles that callers may request.
  std::set<std::string, std::less<>> tls_profiles;
  // Null: every caller is allowed everything.
  std::shared_ptr<const Policy> policy;
  OverloadLimits overload;
  // See AnswerMemory; 0: its default.
  int64_t max_answer_bytes = 0;
  // The targets named in the configuration; canonical.
  std::set<std::string, std::less<>> targets;
  // Null: calls are not recorded.
  std::shared_ptr<const CallObserver> observer;
  // By canonical target; targets without an entry never cool down.
  std::map<std::string, CoolDownSettings, std::less<>> cool_down;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_OPTIONS_H_
