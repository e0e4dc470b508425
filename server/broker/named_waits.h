// Acquires with a request_id that wait for a slot or back off between two
// dials, by target and request_id. The pool knows them only while they have a
// place in line; between two places a Release, or the same Acquire again, finds
// them here.
//
// Thread safety: every method may be called from any thread. The lock is a
// leaf.
//
// Invariant: a call is listed from Add to Remove, which comes before its
// destruction.
#ifndef HOTLINE_SERVER_BROKER_NAMED_WAITS_H_
#define HOTLINE_SERVER_BROKER_NAMED_WAITS_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace hotline::server {

class PooledCall;

class NamedWaits {
 public:
  void Add(PooledCall* call);
  void Remove(PooledCall* call);
  // The calls of this name: the latest, and those that it is about to replace.
  std::vector<std::shared_ptr<PooledCall>> Find(
      const std::string& target, std::string_view request_id) const;

 private:
  using Name = std::pair<std::string, std::string>;  // Target, request_id.

  mutable Mutex mu_;
  std::multimap<Name, PooledCall*> calls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_NAMED_WAITS_H_
