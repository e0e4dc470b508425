#include "server/broker/event_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/url.h"

namespace hotline::server {
namespace {

// A caller whose filter lets nothing through is told how far it is this often,
// in events: else it would find a gap when it resumes.
constexpr uint64_t kTellAfter = EventLog::kCapacity / 4;

}  // namespace

EventWatch::EventWatch(Broker* broker, std::string instance,
                       AuthorizeFn authorize)
    : broker_(broker),
      log_(broker->events()),
      instance_(std::move(instance)),
      authorize_(std::move(authorize)) {}

ErrorPtr EventWatch::Open(const v1::WatchEventsRequest& request, Instant now) {
  if (!request.target().empty()) {
    ParsedTarget target;
    if (auto bad = ParseTarget(request.target(), &target)) {
      return FromInput(*bad);
    }
    filter_.target = target.canonical;
  }
  if (request.kinds_size() > 0) filter_.kinds = 0;
  for (const int kind : request.kinds()) {
    if (kind == v1::EVENT_KIND_UNSPECIFIED || !v1::EventKind_IsValid(kind)) {
      return FromInput({"BAD_OPTION", "kinds",
                        absl::StrCat("there is no kind of event ", kind)});
    }
    filter_.kinds |= uint64_t{1} << kind;
  }
  if (request.has_after()) after_ = request.after();
  callers_instance_ = request.instance();
  kept_only_ = request.kept_only();
  return Authorize(now);
}

ErrorPtr EventWatch::Authorize(Instant now) {
  const auto settings = broker_->settings();
  policy_ = settings->policy;
  return authorize_(*settings, filter_.target, now, &view_);
}

EventWatch::Step EventWatch::Next(v1::WatchEventsResponse* out) {
  out->Clear();
  if (broker_->settings()->policy != policy_)
    error_ = Authorize(MonotonicNow());
  if (error_ != nullptr) return Step::kEnd;
  // Before the log is read: the events before the end are to be seen.
  const bool ending = broker_->aborted();
  const bool first = !std::exchange(begun_, true);
  if (first) Begin(out);
  const bool ended = kept_only_ && !first && at_ >= end_;
  const bool news = !ended && Read(out);
  if (first || news) {
    out->set_sequence(told_ = at_);
    return Step::kResponse;
  }
  if (ended || (kept_only_ && at_ >= end_)) return Step::kEnd;
  if (!ending) return Step::kNothing;
  error_ = DrainingError();
  return Step::kEnd;
}

void EventWatch::Begin(v1::WatchEventsResponse* out) {
  out->set_instance(ToUtf8(instance_));
  end_ = log_.last();
  // What was dropped before the first kept event is no gap for a caller that
  // asks for what is kept.
  const uint64_t before_kept = log_.Read(0, filter_, /*most=*/0).sequence;
  const bool all_kept =
      kept_only_ ? after_.value_or(0) == 0 : after_ == uint64_t{0};
  at_ = all_kept ? before_kept : after_.value_or(end_);
  const bool other_process = at_ > end_ || (!callers_instance_.empty() &&
                                            callers_instance_ != instance_);
  if (!other_process) return;
  at_ = before_kept;
  out->mutable_gap();
}

bool EventWatch::Read(v1::WatchEventsResponse* out) {
  bool news = false;
  do {
    const EventLog::Page page =
        log_.Read(at_, filter_, kMostEvents - out->events_size());
    at_ = page.sequence;
    if (page.gap_first != 0 && !out->has_gap()) {
      out->mutable_gap()->set_first(page.gap_first);
      out->mutable_gap()->set_last(page.gap_last);
      news = true;
    }
    for (const EventPtr& event : page.events) {
      FillEvent(*event, view_, out->add_events());
      news = true;
    }
  } while (at_ < log_.last() && !news);
  return news || at_ - told_ >= kTellAfter;
}

}  // namespace hotline::server
