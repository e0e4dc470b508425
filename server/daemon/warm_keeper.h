// Sees to it that what is warm stays so over restarts, and tells who asks.
//
//   - The warm set: made again at the start (see warm_set.h), written down
//   every
//     `rewarm.interval` and when told to.
//   - Readiness: which of the floors and sets that were asked for with
//     `ready_when_warm` are still to be made. Once it was there, each counts as
//     ready: an upstream that goes away later must not take us out of service.
//   - The health of `target:<target>`, for each target that has a floor in the
//     configuration: whether that is there now.
#ifndef HOTLINE_SERVER_DAEMON_WARM_KEEPER_H_
#define HOTLINE_SERVER_DAEMON_WARM_KEEPER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "base/time.h"
#include "pool/pool.h"
#include "server/config/config.h"
#include "server/daemon/warm_set.h"

namespace hotline::server {

// Thread safety: any thread, but for Configure, Start and Save, which are for
// one thread at a time.
class WarmKeeper {
 public:
  struct World {
    pool::Pool* pool = nullptr;
    // Upstream::RunAt.
    std::function<void(Instant when, absl::AnyInvocable<void()> work)> run_at;
    // What grpc.health.v1 says of a service from now on. Called from a loop.
    std::function<void(const std::string& service, bool serving)> set_health;
  };

  explicit WarmKeeper(World world);
  ~WarmKeeper();
  WarmKeeper(const WarmKeeper&) = delete;
  WarmKeeper& operator=(const WarmKeeper&) = delete;

  // What is asked for; at the start and at each reload.
  void Configure(const Settings& settings);

  // Reads the warm set and begins to make it. Once. A set that cannot be used
  // is logged and left.
  void Start(Instant now);
  // Begins to look at the floors. Once, when health can be told.
  void Watch();

  // Why the process is not ready yet: one line for each floor or set.
  std::vector<std::string> NotReady() const;

  // Writes the warm set down if its time has come, or `now_anyway`. Where that
  // fails, it is logged once, until it works again.
  void Save(Instant now, bool now_anyway = false);

  // Every floor's health is NOT_SERVING from now on.
  void StartDrain();

 private:
  class Impl;
  // Shared with the timers, which outlive it maybe.
  const std::shared_ptr<Impl> impl_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_WARM_KEEPER_H_
