// Keeps connections warm over restarts, and reports what is warm:
//
//   - The warm set: dialled again at the start (see warm_set.h), written every
//     `rewarm.interval` and at the start of a drain.
//   - Readiness: the floors and warm sets with `ready_when_warm` that have not
//     been reached yet. Once reached, each counts as ready for good: an
//     upstream that fails later must not take this process out of service.
//   - The health of the service `target:<target>` for each target with a floor
//     in the configuration: whether the floor is reached now.
//
// Thread safety: any thread, except that Configure, Start and Save are for one
// thread at a time.
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

class WarmKeeper {
 public:
  // What it works with.
  struct Hooks {
    pool::Pool* pool = nullptr;
    // Upstream::RunAt.
    std::function<void(Instant when, absl::AnyInvocable<void()> work)> run_at;
    // Sets the status of a service in grpc.health.v1. Called from a loop.
    std::function<void(const std::string& service, bool serving)> set_health;
  };

  explicit WarmKeeper(Hooks hooks);
  ~WarmKeeper();
  WarmKeeper(const WarmKeeper&) = delete;
  WarmKeeper& operator=(const WarmKeeper&) = delete;

  // Takes the floors and the rewarm settings; to be called at the start and at
  // each reload.
  void Configure(const Settings& settings);

  // Reads the warm set and starts to dial it; to be called once. `handed`: the
  // set of the process that this one replaces (see CurrentSet), which is used
  // instead of the file. A set that cannot be used is logged and ignored.
  void Start(Instant now, const std::string* handed = nullptr);
  // Starts to report the floors' health; to be called once set_health works.
  void StartHealth();

  // Why the process is not ready yet: one line for each floor or set.
  std::vector<std::string> NotReady() const;
  // What is not warm: one line for each floor that is not reached now, whether
  // or not readiness waits for it, and one for the warm set while it is
  // dialled.
  std::vector<std::string> NotWarm() const;

  // The warm set as it is now, in the format of the file.
  std::string CurrentSet(Instant now) const;

  // How far the dialling of the warm set has come; zero without one.
  struct Rewarming {
    int ready = 0;    // Connections.
    int missing = 0;  // Not ready yet or, once `done`, given up.
    bool done = false;
  };
  Rewarming rewarming() const;

  // Writes the warm set if rewarm.interval has passed, or `at_once`. A failure
  // is logged once, until a write succeeds again.
  void Save(Instant now, bool at_once = false);

  // Sets every floor's health to NOT_SERVING for good.
  void StartDrain();

 private:
  class Impl;
  // Shared with timers, which may outlive it.
  const std::shared_ptr<Impl> impl_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_WARM_KEEPER_H_
