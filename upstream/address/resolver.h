// Resolves host names by DNS, with a cache by TTL.
#ifndef HOTLINE_UPSTREAM_ADDRESS_RESOLVER_H_
#define HOTLINE_UPSTREAM_ADDRESS_RESOLVER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/ip_address.h"
#include "base/mutex.h"
#include "base/time.h"
#include "net/loop.h"
#include "upstream/types.h"

namespace hotline::upstream {

using Addresses = std::vector<IpAddress>;

struct Resolution {
  Addresses addresses;     // In the order of the answer; at least one.
  Instant until = kNever;  // When the answer expires.
  Families known = {};     // The families that DNS has answered for.
};

// The location of the system's DNS configuration.
struct ResolvConf {
  std::string path = "/etc/resolv.conf";
  uint16_t port = 53;  // Of servers without a port.
};

//   auto resolver = Resolver::Create(loop, /*servers=*/{});
//   if (auto cached = (*resolver)->Lookup(host, now)) return *cached;
//   (*resolver)->Resolve(host, [](Resolver::Result result) { ... });
//
// IPv4 and IPv6 addresses are queried separately and concurrently. Once one
// query has returned addresses, the other one may take kResolutionDelay longer
// (RFC 8305, 3); a later answer is added.
//
// Answers are cached for their TTL, at least kMinTtl and at most kMaxTtl;
// failures for kFailureTtl, so that retries do not cause a query each.
// Concurrent resolutions of one name share their queries. Numeric addresses and
// localhost are answered without DNS. /etc/hosts, the search list and ndots are
// obeyed. A name with a trailing dot is absolute, and cached separately.
//
// A changed resolv.conf is read again: it is checked before each query and when
// a server does not answer. Outstanding queries are then repeated.
//
// Thread-safe where noted; the rest belongs to the loop.
class Resolver {
 public:
  static constexpr Duration kMinTtl = std::chrono::seconds(5);
  static constexpr Duration kMaxTtl = std::chrono::minutes(30);
  static constexpr Duration kFailureTtl = std::chrono::seconds(1);
  static constexpr Duration kResolutionDelay = std::chrono::milliseconds(50);
  static constexpr size_t kMaxNames = 10'000;  // In the cache.
  static constexpr size_t kMaxQueries = 4096;  // Outstanding.

  using Result = absl::StatusOr<Resolution>;
  using Callback = absl::AnyInvocable<void(Result)>;

  // `servers`: "192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:53"; empty: the
  // system's. INVALID_ARGUMENT names the first invalid one. The loop must
  // outlive the resolver.
  static absl::StatusOr<std::unique_ptr<Resolver>> Create(
      net::Loop* loop, const std::vector<std::string>& servers,
      ResolvConf system = {});
  ~Resolver();

  // The cached answer or failure; nothing if there is none. Any thread.
  std::optional<Result> Lookup(const std::string& host, Instant now) const;

  // Resolves. `callback` runs on the loop, once; and a second time, with the
  // whole answer, if addresses came after the delay. Any thread.
  void Resolve(const std::string& host, Callback callback);

  // Any thread.
  DnsCounters counters() const {
    MutexLock lock(&mu_);
    return counters_;
  }

  // Cancels outstanding queries; callbacks that have not run get CANCELLED. On
  // the loop, or after it has ended.
  void Shutdown();

 private:
  class Question;
  struct Known {
    Result result;
    Instant until;
  };

  explicit Resolver(net::Loop* loop);
  void Start(const std::string& host, Callback callback);
  void Begin(const std::string& host, std::vector<Callback> callbacks);
  void Forget(Question* question);
  // Repeats the queries sent with an earlier configuration.
  void Restart();
  // A query that took `took` ended; `counter` is the one of its result.
  void Count(uint64_t DnsCounters::*counter, Duration took);
  // `last`: no further answer follows.
  void Report(Question* question, const Result& result, bool last);
  void Keep(const std::string& host, const Result& result, Instant until,
            Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  net::Loop* const loop_;
  // On the loop only.
  std::unique_ptr<class ResolverChannel> channel_;
  absl::flat_hash_map<std::string, std::shared_ptr<Question>> running_;

  mutable Mutex mu_;
  absl::flat_hash_map<std::string, Known> known_ ABSL_GUARDED_BY(mu_);
  DnsCounters counters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_RESOLVER_H_
