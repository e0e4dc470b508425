// Names to addresses, with a cache by TTL.
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

namespace hotline::upstream {

using Addresses = std::vector<IpAddress>;

struct Resolution {
  Addresses addresses;     // As DNS gave them; at least one.
  Instant until = kNever;  // Then it is time to ask again.
  Families known = {};     // Of the others nothing was learned.
};

// Where the system's DNS configuration is.
struct ResolvConf {
  std::string path = "/etc/resolv.conf";
  uint16_t port = 53;  // Of servers without a port.
};

// IPv4 and IPv6 addresses are asked for separately, at the same time. Once one
// of the two has brought addresses the other one gets kResolutionDelay (RFC
// 8305, 3); what comes later is added to the answer.
//
// Answers are kept for their TTL, but at least 5 s and at most 30 min; failures
// for a second, so that what retries does not ask each time. Look-ups of one
// name at the same time are one. Names that are addresses, and localhost, are
// answered without DNS; /etc/hosts, the search list and ndots count, as in
// other programs. A name with a dot at its end is looked up as it is, and is
// another one than without.
//
// resolv.conf is read again when it has changed, which is looked at before each
// question and when a server does not answer; what is under way by then is
// asked again.
class Resolver {
 public:
  static constexpr Duration kMinTtl = std::chrono::seconds(5);
  static constexpr Duration kMaxTtl = std::chrono::minutes(30);
  static constexpr Duration kFailureTtl = std::chrono::seconds(1);
  static constexpr Duration kResolutionDelay = std::chrono::milliseconds(50);
  static constexpr size_t kMaxNames = 10'000;  // Kept.
  static constexpr size_t kMaxQueries = 4096;  // At the same time.

  using Result = absl::StatusOr<Resolution>;
  using Callback = absl::AnyInvocable<void(Result)>;

  // `servers`: "192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:53"; empty: the
  // system's. INVALID_ARGUMENT names the one that does not parse. The loop must
  // outlive the resolver.
  static absl::StatusOr<std::unique_ptr<Resolver>> Create(
      net::Loop* loop, const std::vector<std::string>& servers,
      ResolvConf system = {});
  ~Resolver();

  // What is known without asking anybody; failures, too. Any thread.
  std::optional<Result> Lookup(const std::string& host, Instant now) const;

  // Asks. `callback` runs on the loop, once; and a second time, with the whole
  // answer, when more came after the delay. Any thread.
  void Resolve(const std::string& host, Callback callback);

  // Ends what is under way; callbacks that have not run get CANCELLED. On the
  // loop, or when it has ended.
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
  // Asks again what was asked of a configuration that is gone.
  void Restart();
  // `last`: nothing more will come.
  void Tell(Question* question, const Result& result, bool last);
  void Keep(const std::string& host, const Result& result, Instant until,
            Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  net::Loop* const loop_;
  // On the loop only.
  std::unique_ptr<class ResolverChannel> channel_;
  absl::flat_hash_map<std::string, std::shared_ptr<Question>> running_;

  mutable Mutex mu_;
  absl::flat_hash_map<std::string, Known> known_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_RESOLVER_H_
