// Who calls: a name that a certificate or the kernel vouches for.
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

namespace hotline::server {

// One caller, as long as anybody speaks of it: there is never more than one
// object for a name, so what it uses is counted here.
struct Identity {
  // "spiffe://…", "dns:…", "cn:…", "uid:1000"; empty: nobody in particular.
  std::string name;
  // Marks what it owns (LeaseId::owner). Never 0, but for nobody; never reused.
  uint64_t owner = 0;

  // What it has of what a policy counts.
  mutable std::atomic<int> leases{0};
  mutable std::atomic<int> waiters{0};
  // Requests: when the last admitted one would have come at an even rate.
  mutable std::atomic<int64_t> next_request_ns{0};
};

// Null: the caller has no identity.
using IdentityPtr = std::shared_ptr<const Identity>;

// Empty for nobody.
inline std::string_view NameOf(const IdentityPtr& identity) {
  return identity == nullptr ? std::string_view() : identity->name;
}

// Whether `uri` is the SPIFFE ID of a workload, by the SPIFFE specification:
// "spiffe://", a trust domain of [a-z0-9._-], 255 bytes at most, and a path of
// one or more segments of [A-Za-z0-9._-], none empty, "." or "..". 2048 bytes
// at most, and nothing else: no port, query, fragment or percent-encoding. So a
// pattern such as "spiffe://prod/ns/pay/*" means what it looks like.
bool IsSpiffeId(std::string_view uri);

// The names of a verified certificate; the best one is who it is: a SPIFFE ID,
// else the first DNS name, else the common name, else none. A certificate with
// two URIs has no SPIFFE ID, as the specification (X.509-SVID) has it.
std::string NameOfCertificate(const std::vector<std::string_view>& uris,
                              const std::vector<std::string_view>& dns_names,
                              std::string_view common_name);

// The identities that are spoken of. Bounded by who speaks: entries that nobody
// holds are dropped when the table has grown.
//
// Thread-safe.
class IdentityTable {
 public:
  // REQUIRES: `name` is not empty.
  IdentityPtr Get(std::string_view name);

  size_t size() const;

 private:
  mutable Mutex mu_;
  absl::flat_hash_map<std::string, IdentityPtr> identities_
      ABSL_GUARDED_BY(mu_);
  uint64_t next_owner_ ABSL_GUARDED_BY(mu_) = 1;
  size_t sweep_at_ ABSL_GUARDED_BY(mu_) = 1024;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_IDENTITY_H_
