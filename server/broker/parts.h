// What the calls of a Broker need of it. The Broker owns it; both outlive every
// call. The members are thread-safe.
#ifndef HOTLINE_SERVER_BROKER_PARTS_H_
#define HOTLINE_SERVER_BROKER_PARTS_H_

#include <atomic>
#include <memory>
#include <utility>

#include "pool/pool.h"
#include "server/broker/answer_memory.h"
#include "server/broker/call.h"
#include "server/broker/call_metrics.h"
#include "server/broker/error.h"
#include "server/broker/event_log.h"
#include "server/broker/event_sources.h"
#include "server/broker/gatekeeper.h"
#include "server/broker/named_waits.h"
#include "server/broker/overload.h"
#include "server/broker/registry.h"
#include "server/broker/target_table.h"
#include "upstream/upstream.h"

namespace hotline::server {

struct BrokerParts {
  BrokerParts(const BrokerSettings& settings, pool::Pool* pool,
              upstream::Upstream* upstream, CallMetrics* metrics,
              EventLog* events)
      : pool(pool),
        upstream(upstream),
        metrics(metrics),
        events(events),
        targets(metrics),
        overload(settings.overload, ResidentBytes,
                 [events](Shed why, int64_t limit, uint64_t others) {
                   AddShed(why, limit, others, events);
                 }),
        answers(settings.max_answer_bytes,
                [upstream](Instant when, absl::AnyInvocable<void()> work) {
                  upstream->RunAt(when, std::move(work));
                }) {}

  // Null for kOk. An error that may indicate use of another caller's lease is
  // audited.
  ErrorPtr LeaseError(pool::LeaseStatus status, RpcMethod rpc,
                      const CallContext& context) {
    if (status == pool::LeaseStatus::kOk) return nullptr;
    ErrorPtr error = FromLeaseStatus(status);
    gatekeeper.Note(rpc, context.identity, *error);
    return error;
  }

  pool::Pool* const pool;
  upstream::Upstream* const upstream;
  CallMetrics* const metrics;
  EventLog* const events;
  Registry registry;
  NamedWaits named_waits;
  TargetTable targets;
  Gatekeeper gatekeeper;
  Overload overload;
  AnswerMemory answers;
  // Of calls whose context has none.
  const AnswerMemory::CallerPtr unknown_caller =
      std::make_shared<AnswerMemory::Caller>();
  // An operator has taken the broker out of service: calls that would borrow a
  // connection are refused.
  std::atomic<bool> drained{false};
  // Calls that start from now on are aborted at once.
  std::atomic<bool> aborted{false};
};

// INVALID_ARGUMENT/BAD_LEASE_ID.
inline ErrorPtr BadLeaseId() {
  return FromInput(
      {"BAD_LEASE_ID", "lease_id", "not a lease id: 44 hexadecimal digits"});
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_PARTS_H_
