#include "server/admin/watch_events.h"

#include <chrono>
#include <utility>

#include "grpcpp/alarm.h"
#include "server/admin/errors.h"

namespace hotline::server {
namespace {

// One thing at a time is under way, a write or a pause, until Finish.
class WatchReactor final : public EventReactor {
 public:
  WatchReactor(grpc::CallbackServerContext* context,
               std::unique_ptr<EventWatch> watch)
      : context_(context), watch_(std::move(watch)) {
    Step();
  }

 private:
  void Step() {
    if (context_->IsCancelled()) return Finish(grpc::Status::CANCELLED);
    switch (watch_->Next(&response_)) {
      case EventWatch::Step::kResponse:
        return StartWrite(&response_);
      case EventWatch::Step::kNothing:
        // A caller that leaves meanwhile is noticed after it.
        return pause_.Set(
            std::chrono::system_clock::now() +
                std::chrono::duration_cast<std::chrono::milliseconds>(
                    EventWatch::kInterval),
            [this](bool) { Step(); });
      case EventWatch::Step::kEnd:
        return Finish(ToGrpc(watch_->TakeError()));
    }
  }

  void OnWriteDone(bool ok) override {
    ok ? Step() : Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override { delete this; }

  grpc::CallbackServerContext* const context_;
  const std::unique_ptr<EventWatch> watch_;
  v1::WatchEventsResponse response_;
  grpc::Alarm pause_;
};

class FailedReactor final : public EventReactor {
 public:
  explicit FailedReactor(const grpc::Status& status) { Finish(status); }

 private:
  void OnDone() override { delete this; }
};

}  // namespace

EventReactor* NewEventReactor(grpc::CallbackServerContext* context,
                              std::unique_ptr<EventWatch> watch) {
  return new WatchReactor(context, std::move(watch));
}

EventReactor* NewFailedReactor(const grpc::Status& status) {
  return new FailedReactor(status);
}

}  // namespace hotline::server
