// Calls that end without an answer: a lost stream, or a deadline.
#include <grpc/support/time.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "client/retry.h"
#include "client/session_core.h"
#include "client/status.h"

namespace hotline::client {
namespace {

// Deadlines are checked at most this often.
constexpr Duration kAlarmGrain = std::chrono::milliseconds(2);

// The broker has not processed the calls that it did not answer.
bool IsDrain(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  return absl::IsUnavailable(status) && info.has_value() &&
         info->domain == kErrorDomain && info->reason == "DRAINING";
}

}  // namespace

Duration LessMargin(Duration left) {
  return left - std::clamp<Duration>(left / 20, std::chrono::milliseconds(2),
                                     std::chrono::milliseconds(50));
}

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsInternal(status) ||
         absl::IsUnknown(status) || status.ok();
}

absl::Status LeaseLost() {
  return LocalError(absl::StatusCode::kNotFound, "LEASE_LOST",
                    "the session that the lease was acquired in is gone",
                    /*written=*/false);
}

// Calls that were sent and have no answer.
void SessionCore::LoseSentLocked(const absl::Status& status, Endings* endings) {
  const bool drained = IsDrain(status);
  const absl::Status lost =
      LocalError(absl::StatusCode::kAborted, "SESSION_LOST",
                 absl::StrCat("the session was lost before the answer came: ",
                              status.message()),
                 /*written=*/true);
  for (auto& [id, entry] : sent_) {
    if (entry->done == nullptr) continue;
    if (drained && entry->stream == 0 &&
        entry->sends < options_.client.retry.max_attempts) {
      queue_.push_front(std::move(entry));
    } else {
      endings->emplace_back(std::move(entry->done), drained ? status : lost);
    }
  }
  sent_.clear();
}

// Calls that were not sent; without a `failure` they wait for the next stream.
void SessionCore::LoseQueuedLocked(const absl::Status* failure,
                                   Endings* endings) {
  std::deque<Entry> kept;
  for (Entry& entry : queue_) {
    if (entry->done == nullptr) continue;  // It applied to that stream only.
    if (entry->stream != 0) {
      endings->emplace_back(std::move(entry->done), LeaseLost());
    } else if (failure != nullptr) {
      const bool passing = MayPass(*failure);
      endings->emplace_back(
          std::move(entry->done),
          LocalError(
              passing ? absl::StatusCode::kUnavailable : failure->code(),
              "SESSION_UNAVAILABLE",
              absl::StrCat("no session could be opened: ", failure->message()),
              /*written=*/false));
    } else {
      kept.push_back(std::move(entry));
    }
  }
  queue_ = std::move(kept);
}

// --- Time ---

void SessionCore::WakeByLocked(Instant when) {
  if (closed_ || when >= alarm_at_) return;
  const Instant now = MonotonicNow();
  when = std::max(when, now + kAlarmGrain);
  if (when >= alarm_at_) return;
  alarm_at_ = when;
  // The previous alarm is cancelled with its object.
  alarm_ = std::make_shared<grpc::Alarm>();
  alarm_->Set(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                   gpr_time_from_nanos((when - now).count(), GPR_TIMESPAN)),
      [weak = weak_from_this(), when](bool) {
        if (const auto core = weak.lock()) core->OnAlarm(when);
      });
}

Duration SessionCore::ConnectWaitLocked(Instant now) const {
  Duration wait = options_.client.connect_wait;
  for (const Entry& entry : queue_) {
    wait = std::min(wait, (entry->deadline - now) / 2);
  }
  return wait;
}

SessionStream* SessionCore::GiveUpLocked(Instant now) {
  if (state_ != State::kConnecting || now < give_up_at_) return nullptr;
  give_up_at_ = kNever;
  stream_->gave_up = true;
  ++stream_->users;
  return stream_;
}

void SessionCore::OnAlarm(Instant set_for) {
  Endings endings;
  SessionStream* late = nullptr;
  {
    MutexLock lock(&mu_);
    // A newer alarm is set.
    if (closed_ || set_for != alarm_at_) return;
    alarm_at_ = kNever;
    const Instant now = MonotonicNow();
    late = GiveUpLocked(now);
    ExpireLocked(now, &endings);
  }
  if (late != nullptr) {
    late->Cancel();
    LetGo(late);
  }
  Deliver(endings);
  Pump();
}

void SessionCore::ExpireLocked(Instant now, Endings* endings) {
  Instant next = state_ == State::kConnecting ? give_up_at_ : kNever;
  const auto late = [](bool written) {
    return LocalError(absl::StatusCode::kDeadlineExceeded, "DEADLINE",
                      written ? "no answer within the call's deadline"
                              : "not sent within the call's deadline",
                      written);
  };
  std::vector<uint64_t> cancelled;
  for (auto& [id, entry] : sent_) {
    if (entry->done == nullptr) continue;
    if (entry->deadline > now) {
      next = std::min(next, entry->deadline);
      continue;
    }
    // Its answer may still arrive: see OnResults.
    endings->emplace_back(std::move(entry->done), late(true));
    entry->done = nullptr;
    cancelled.push_back(id);
  }
  std::erase_if(queue_, [&](Entry& entry) {
    if (entry->done == nullptr) return false;
    const bool hopeless = LessMargin(entry->deadline - now) <= Duration(0);
    if (!hopeless) {
      next = std::min(next, entry->deadline);
    } else {
      endings->emplace_back(std::move(entry->done), late(false));
    }
    return hopeless;
  });
  for (const uint64_t id : cancelled) {
    auto cancel = std::make_unique<SessionEntry>();
    cancel->item = std::make_shared<v1::SessionItem>();
    cancel->item->mutable_cancel()->set_id(id);
    cancel->stream = number_;
    queue_.push_back(std::move(cancel));
  }
  if (next != kNever) WakeByLocked(next);
}

}  // namespace hotline::client
