// WatchEvents: sends what the watch has to say, at the pace of the caller.
#include <memory>
#include <utility>

#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/event_watch.h"
#include "server/front/caller_connection.h"
#include "server/front/front_loop.h"
#include "server/front/unary_call.h"

namespace hotline::server {
namespace {

// Written by one call in one turn, so that others have theirs.
constexpr int kMaxMessages = 4;

// Its request is one message; the responses are sent by hand.
class WatchEventsCall final
    : public UnaryCall<v1::WatchEventsRequest, v1::WatchEventsResponse> {
 public:
  using UnaryCall::UnaryCall;

  void OnSendable() override {
    if (std::exchange(waiting_, false)) Step();
  }

 private:
  void Start() override {
    Broker* const broker = home().parts().broker;
    if (ErrorPtr error = broker->WatchEvents(request(), context(), &watch_)) {
      return Finish(std::move(error));
    }
    ArmDeadline();
    Step();
  }

  void Step() {
    for (int i = 0; i < kMaxMessages && !waiting_; ++i) {
      if (over()) return;
      switch (watch_->Next(&message_)) {
        case EventWatch::Step::kResponse:
          waiting_ = Send(message_) > 0;
          break;
        case EventWatch::Step::kNothing:
          return StepAt(MonotonicNow() + EventWatch::kInterval);
        case EventWatch::Step::kEnd:
          return Finish(watch_->TakeError());
      }
    }
    if (!waiting_) StepAt(MonotonicNow());
  }

  void StepAt(Instant when) {
    next_ = home().loop().RunAt(when, [this, keep = Ref(this)] {
      next_ = {};
      Step();
    });
  }

  void OnStreamGone(net::StreamEnd) override {
    if (next_) home().loop().Cancel(std::exchange(next_, {}));
  }

  std::unique_ptr<EventWatch> watch_;
  v1::WatchEventsResponse message_;
  net::Loop::Deadline next_;
  bool waiting_ = false;  // A message waits; OnSendable follows.
};

}  // namespace

ServerCall* NewWatchEventsCall(const CallOrigin& origin) {
  return new WatchEventsCall(RpcMethod::kWatchEvents, origin);
}

}  // namespace hotline::server
