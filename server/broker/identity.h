// Identities of callers: names that a certificate or the kernel vouches for,
// and the counters of what each of them uses.
//
// Thread safety: an Identity's counters are atomic; IdentityTable is
// thread-safe.
//
// Invariant: at most one Identity object exists per name at a time, so usage is
// counted in one place; owner numbers are never reused.
#ifndef HOTLINE_SERVER_BROKER_IDENTITY_H_
#define HOTLINE_SERVER_BROKER_IDENTITY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "server/broker/striped_counter.h"

namespace hotline::server {

struct Identity {
  // "spiffe://…", "dns:…", "cn:…", "uid:1000"; empty: no identity.
  std::string name;
  // Marks its leases (LeaseId::owner). 0 only without a name.
  uint64_t owner = 0;

  // Usage that quotas limit.
  mutable std::atomic<int> leases{0};
  mutable std::atomic<int> waiters{0};
  // Of the token bucket for requests: when the next one is due at an even rate.
  mutable std::atomic<int64_t> next_request_ns{0};

  // For the metrics: calls that need a connection, and denials by the policy.
  mutable StripedCounter calls;
  mutable std::atomic<uint64_t> denials{0};
};

// What an identity has done since the start.
struct IdentityUsage {
  std::string name;
  uint64_t calls = 0;
  uint64_t denials = 0;
};

// Null: the caller has no identity.
using IdentityPtr = std::shared_ptr<const Identity>;

// Empty for null.
inline std::string_view NameOf(const IdentityPtr& identity) {
  return identity == nullptr ? std::string_view() : identity->name;
}

// Whether `uri` is the SPIFFE ID of a workload, by the SPIFFE specification:
// "spiffe://", a trust domain of [a-z0-9._-], 255 bytes at most, and a path of
// one or more segments of [A-Za-z0-9._-], none empty, "." or "..". At most 2048
// bytes, without port, query, fragment or percent-encoding, so that a pattern
// such as "spiffe://prod/ns/pay/*" is unambiguous.
bool IsSpiffeId(std::string_view uri);

// The identity of a verified certificate with these names: its SPIFFE ID, else
// its first DNS name, else its common name, else none. A certificate with two
// URIs has no SPIFFE ID (X.509-SVID specification).
std::string NameOfCertificate(const std::vector<std::string_view>& uris,
                              const std::vector<std::string_view>& dns_names,
                              std::string_view common_name);

// Identities by name. Entries that are not referenced from outside are dropped
// when the table has doubled in size.
class IdentityTable {
 public:
  // REQUIRES: `name` is not empty.
  IdentityPtr Get(std::string_view name);

  // The name of this Identity::owner; empty: none has it now.
  std::string NameOfOwner(uint64_t owner) const;

  size_t size() const;

  // One row for each identity with a call or a denial, and one without a name
  // for those that were dropped.
  std::vector<IdentityUsage> Usage() const;

 private:
  void Sweep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  absl::flat_hash_map<std::string, IdentityPtr> identities_
      ABSL_GUARDED_BY(mu_);
  uint64_t next_owner_ ABSL_GUARDED_BY(mu_) = 1;
  size_t sweep_at_ ABSL_GUARDED_BY(mu_) = 1024;
  IdentityUsage dropped_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_IDENTITY_H_
