// Everything about the use cases that can be configured; filled by config.
//
// Plain values. The checks are of single words of a policy, for whoever reads
// one; what they accept, Policy takes.
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

class Policy;

// Of one caller, over all that it does. 0: no limit.
struct Quota {
  int max_leases = 0;   // Held, or waited for by Acquire.
  int max_waiters = 0;  // Calls in line for a connection.
  int requests_per_second = 0;

  friend bool operator==(const Quota&, const Quota&) = default;
};

struct PolicyRule {
  // Each the whole name of an identity, "*" in it for any characters.
  // "anonymous" is who has none, and the only word for it.
  std::vector<std::string> identities;
  // Targets; in the host "*" stands for any characters, as a port for any, as a
  // scheme for any. Empty: all. What a call sets in the place of the target's
  // host (an SNI, an address) must be one of them as well, unless the next two
  // have it.
  std::vector<std::string> targets;
  // Server names, "*" in them for any characters.
  std::vector<std::string> snis;
  // CIDRs and addresses.
  std::vector<std::string> remote_ips;
  // Names of RPCs. Empty: all.
  std::vector<std::string> rpcs;
  Quota quota;
  bool all_leases = false;  // Sees everybody's in Stats.

  friend bool operator==(const PolicyRule&, const PolicyRule&) = default;
};

struct PolicyRules {
  bool allow_by_default = true;
  std::vector<PolicyRule> rules;

  friend bool operator==(const PolicyRules&, const PolicyRules&) = default;
};

// What is wrong with a rule's words; empty when nothing is.
std::string CheckIdentityPattern(const std::string& text);
std::string CheckTargetPattern(const std::string& text);
std::string CheckSniPattern(const std::string& text);
std::string CheckRpcName(const std::string& text);

// Null if `rules` allow everything to every caller. REQUIRES: their patterns
// pass the checks above.
std::shared_ptr<const Policy> CompilePolicy(const PolicyRules& rules);

struct OverloadLimits {
  int64_t max_memory_bytes = 0;  // Of the process; 0: no limit.
  int max_calls = 10'000;        // Waiting or running, at once.
};

// When an upstream's answer makes us leave its address alone.
struct CoolDownSettings {
  // Answers after which the address that gave them is left alone; empty: none.
  std::vector<int> statuses;
  // What a 429 or 503 says in `Retry-After` counts, whatever `statuses` has.
  bool retry_after = false;
  Duration length{0};      // Where nothing is said.
  Duration max_length{0};  // Whatever is said.

  friend bool operator==(const CoolDownSettings&,
                         const CoolDownSettings&) = default;
};

// Of each session; see config.proto.
struct SessionLimits {
  int max_items_per_message = 1024;
  int max_items_in_flight = 1024;
  int max_leases = 1024;
  int64_t max_buffered_bytes = 32 << 20;

  friend bool operator==(const SessionLimits&, const SessionLimits&) = default;
};

// What can change while the process runs.
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
  // Names that callers may ask for.
  std::set<std::string, std::less<>> tls_profiles;
  // Null: everybody may do everything.
  std::shared_ptr<const Policy> policy;
  OverloadLimits overload;
  // See AnswerMemory; 0: its default.
  int64_t max_answer_bytes = 0;
  // Those that the configuration names; canonical.
  std::set<std::string, std::less<>> targets;
  // By canonical target; of those that have any.
  std::map<std::string, CoolDownSettings, std::less<>> cool_down;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_OPTIONS_H_
