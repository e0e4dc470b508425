// What users of a connection ask for: calls, and the pieces of streamed ones.
#include <algorithm>
#include <utility>

#include "upstream/codec/request_fault.h"
#include "upstream/connection/connection.h"

namespace hotline::upstream {

CallId Connection::Begin(const Request& request, CallHandler* handler,
                         StreamHandler* streamed, bool end, Instant now) {
  // An opaque protocol writes nothing of it.
  if (const char* const fault = traits_.opaque ? nullptr : FaultOf(request)) {
    handler->OnDone(NeverSent(CallError::kBadRequest, fault));
    return 0;
  }
  FollowUp todo;
  Instant arm = kNever;
  CallId id = 0;
  {
    MutexLock lock(&mu_);
    if (state_ == State::kClosing) {
      late_.push_back(handler);
      return 0;
    }
    if (state_ == State::kOpen && codec_->CanSubmit()) {
      if (!calls_.busy()) liveness_.OnFirstCall(now);
      const Call& call = calls_.Begin(request, handler, streamed, end, now);
      id = call.stream;
      arm = call.deadline;
      todo = TryFlushLocked();
      arm = ToArmLocked(std::min(arm, liveness_.Due(calls_.busy())));
    }
  }
  if (id == 0) {
    handler->OnDone(NeverSent(CallError::kConnectionGone,
                              "the connection is not fit for a call"));
    return 0;
  }
  if (arm != kNever) ArmDeadline(arm);
  PostFollowUp(todo);
  if (traits_.opaque) {
    loop_->Post([self = shared_from_this()] { self->DeliverEarly(); });
  }
  return id;
}

void Connection::DeliverEarly() {
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    calls_.set_now(MonotonicNow());
    TakePlainLocked({});
    read_paused_ = !WantsReadLocked();
  }
  FinishEvent();
  UpdateWatch();
}

size_t Connection::SendBody(CallId call, std::string_view piece, bool end) {
  FollowUp todo;
  size_t held = 0;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen || !calls_.Send(call, piece, end)) return 0;
    todo = TryFlushLocked();
    held = calls_.TakeHeld();
  }
  PostFollowUp(todo);
  return held;
}

void Connection::Consume(CallId call, size_t bytes) {
  FollowUp todo;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen || !calls_.Consume(call, bytes)) return;
    if (codec_->WantsWrite()) todo = TryFlushLocked();
    todo.watch = read_paused_ && WantsReadLocked();
    if (todo.watch) read_paused_ = false;
  }
  PostFollowUp(todo);
}

void Connection::ResumeAnswer(CallId call) {
  loop_->Post([self = shared_from_this(), call] {
    {
      MutexLock lock(&self->mu_);
      if (self->state_ != State::kOpen || !self->calls_.Resume(call)) return;
      if (self->read_paused_) self->read_paused_ = !self->WantsReadLocked();
    }
    self->FlushOnLoop();
    self->UpdateWatch();
  });
}

void Connection::CancelCall(CallId call, CallError why) {
  loop_->Post([self = shared_from_this(), call, why] {
    {
      MutexLock lock(&self->mu_);
      if (self->state_ != State::kOpen) return;
      self->calls_.set_now(MonotonicNow());
      if (!self->calls_.Cancel(call, why)) return;
      if (!self->traits_.multiplexed) {
        self->CloseLocked(pool::CloseReason::kCancelled);
      }
    }
    self->FinishEvent();
  });
}

}  // namespace hotline::upstream
