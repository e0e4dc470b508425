// Names to addresses: c-ares on an event loop, with a cache by TTL.
#ifndef HOTLINE_UPSTREAM_RESOLVER_H_
#define HOTLINE_UPSTREAM_RESOLVER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/time.h"
#include "upstream/ip_address.h"
#include "upstream/loop.h"

namespace hotline::upstream {

using Addresses = std::vector<IpAddress>;

struct Resolution {
  Addresses addresses;     // As DNS gave them; at least one.
  Instant until = kNever;  // Then it is time to ask again.
};

// Answers are kept for their TTL, but at least 5 s and at most 30 min; failures
// for a second, so that what retries does not ask each time. Look-ups of one
// name at the same time are one query. Names that are addresses, and localhost,
// are answered without DNS; /etc/hosts and the search list count, as in other
// programs.
class Resolver {
 public:
  static constexpr Duration kMinTtl = std::chrono::seconds(5);
  static constexpr Duration kMaxTtl = std::chrono::minutes(30);
  static constexpr Duration kFailureTtl = std::chrono::seconds(1);
  static constexpr size_t kMaxNames = 10'000;  // Kept.
  static constexpr size_t kMaxQueries = 4096;  // At the same time.

  using Result = absl::StatusOr<Resolution>;
  using Callback = absl::AnyInvocable<void(Result)>;

  // `servers`: "192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:53"; empty: the
  // system's. INVALID_ARGUMENT names the one that does not parse. The loop must
  // outlive the resolver.
  static absl::StatusOr<std::unique_ptr<Resolver>> Create(
      Loop* loop, const std::vector<std::string>& servers);
  ~Resolver();

  // What is known without asking anybody; failures, too. Any thread.
  std::optional<Result> Lookup(const std::string& host, Instant now) const;

  // Asks. `callback` runs on the loop, exactly once. Any thread.
  void Resolve(const std::string& host, Callback callback);

  // Ends what is under way; `callback`s get CANCELLED. On the loop, or when it
  // has ended.
  void Shutdown();

 private:
  class Channel;
  struct Known {
    Result result;
    Instant until;
  };

  explicit Resolver(Loop* loop);
  void Start(const std::string& host, Callback callback);
  void Finish(const std::string& host, absl::StatusOr<Addresses> addresses,
              Duration ttl);
  void Keep(const std::string& host, const Result& result, Instant until,
            Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Loop* const loop_;
  std::unique_ptr<Channel> channel_;  // On the loop only.
  absl::flat_hash_map<std::string, std::vector<Callback>> running_;  // As well.

  mutable Mutex mu_;
  absl::flat_hash_map<std::string, Known> known_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_RESOLVER_H_
