// grpc.health.v1: what is said of the server ("") and of services, for Check
// and Watch.
#ifndef HOTLINE_SERVER_FRONT_HEALTH_H_
#define HOTLINE_SERVER_FRONT_HEALTH_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"

namespace hotline::server {

// Thread-safe.
class HealthTable {
 public:
  void Set(std::string_view service, bool serving);
  // Nothing: the service is unknown.
  std::optional<bool> Find(std::string_view service) const;

 private:
  mutable Mutex mu_;
  absl::flat_hash_map<std::string, bool> services_ ABSL_GUARDED_BY(mu_);
};

// A Watch that is under way; called on its loop.
class HealthWatch {
 public:
  // The table may have changed.
  virtual void OnHealthChanged() = 0;
  // The server stops: it is to end.
  virtual void OnDrain() = 0;

 protected:
  ~HealthWatch() = default;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_HEALTH_H_
