// Effects: what was decided under a shard's lock, to be carried out after it.
#ifndef HOTLINE_POOL_EFFECT_H_
#define HOTLINE_POOL_EFFECT_H_

#include <memory>
#include <variant>
#include <vector>

#include "pool/pool.h"
#include "pool/types.h"

namespace hotline::pool {

struct DialEffect {
  ConnId conn;
  std::shared_ptr<const HostPoolKey> key;
  LoopIndex loop;
};

struct ProbeEffect {
  ConnId conn;
  std::shared_ptr<const HostPoolKey> key;
};

struct CloseEffect {
  ConnId conn;
  CloseReason reason;
};

struct WakeEffect {
  Instant when;
};

struct GrantEffect {
  Waiter* waiter;
  Grant grant;
};

struct RejectEffect {
  Waiter* waiter;
  std::unique_ptr<Rejection> rejection;
};

using Effect = std::variant<DialEffect, ProbeEffect, CloseEffect, WakeEffect,
                            GrantEffect, RejectEffect, PoolEvent>;
using Outbox = std::vector<Effect>;

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_EFFECT_H_
