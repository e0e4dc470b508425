// One call of WatchEvents: which events its caller sees, and how far it is.
//
//   std::unique_ptr<EventWatch> watch;
//   if (auto error = broker.WatchEvents(request, context, &watch)) ...;
//   switch (watch->Next(&response)) ...
//
// The front asks for the next response when the caller has taken the previous
// one. So a slow caller costs nothing but this position in the log.
//
// Thread-compatible.
#ifndef HOTLINE_SERVER_BROKER_EVENT_WATCH_H_
#define HOTLINE_SERVER_BROKER_EVENT_WATCH_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/time.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/error.h"
#include "server/broker/event_log.h"

namespace hotline::server {

class EventWatch {
 public:
  // When to call Next again after kNothing.
  static constexpr Duration kInterval = std::chrono::milliseconds(100);
  static constexpr size_t kMostEvents = 128;  // In one response.

  // Asks the policy, at the start and whenever it has changed, whether the
  // caller may watch `target` (empty: all). Null: it may; sets what it sees.
  using AuthorizeFn = std::function<ErrorPtr(const BrokerSettings& settings,
                                             const std::string& target,
                                             Instant now, EventView* view)>;

  // `instance`: of this process.
  EventWatch(Broker* broker, std::string instance, AuthorizeFn authorize);

  // Before Next, once. Errors: BAD_TARGET, BAD_OPTION, and those of the policy.
  ErrorPtr Open(const v1::WatchEventsRequest& request, Instant now);

  enum class Step {
    kResponse,  // It is in `out`.
    kNothing,   // There is nothing to send now.
    kEnd,       // With TakeError().
  };
  Step Next(v1::WatchEventsResponse* out);

  // Null: OK.
  ErrorPtr TakeError() { return std::move(error_); }

 private:
  ErrorPtr Authorize(Instant now);
  void Begin(v1::WatchEventsResponse* out);
  // Adds what comes next. False: the caller has seen everything.
  bool Read(v1::WatchEventsResponse* out);

  Broker* const broker_;
  const EventLog& log_;
  const std::string instance_;
  const AuthorizeFn authorize_;
  // Of the request.
  EventFilter filter_;
  std::optional<uint64_t> after_;
  std::string callers_instance_;
  bool kept_only_ = false;
  // The policy that the caller was last authorized by, and what it may see.
  std::shared_ptr<const Policy> policy_;
  EventView view_;
  bool begun_ = false;
  uint64_t at_ = 0;    // The last event that was looked at.
  uint64_t told_ = 0;  // As the caller knows it.
  uint64_t end_ = 0;   // With kept_only.
  ErrorPtr error_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EVENT_WATCH_H_
