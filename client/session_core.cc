#include "client/session_core.h"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "client/proto_time.h"
#include "client/retry.h"
#include "client/status.h"

namespace hotline::client {
namespace {

// Size of one message; the broker reads up to 8 MiB.
constexpr size_t kMaxBatchBytes = 1 << 20;
constexpr size_t kMaxBatchItems = 512;

// At most `most`, also if unset.
google::protobuf::Duration Capped(bool said,
                                  const google::protobuf::Duration& length,
                                  Duration most) {
  return said && FromProto(length) <= most ? length : ToProto(most);
}

size_t SizeOf(const v1::SessionItem& item) {
  size_t size = 256;
  if (item.has_execute()) size += item.execute().body().size();
  return size;
}

// Random, below min(max, initial * 2^failures).
Duration Backoff(int failures, const RetryOptions& options) {
  static thread_local absl::BitGen random;
  Duration bound = options.initial_backoff;
  for (int i = 0; i < failures && bound < options.max_backoff; ++i) bound *= 2;
  bound = std::min(bound, options.max_backoff);
  return Duration(absl::Uniform<int64_t>(random, 0, bound.count() + 1));
}

}  // namespace

SessionCore::SessionCore(BrokerSessionOptions options,
                         const std::shared_ptr<grpc::Channel>& channel)
    : options_(std::move(options)),
      channel_(channel),
      stub_(v1::Broker::NewStub(channel)) {}

void SessionCore::Deliver(Endings& endings) {
  for (auto& [done, status] : endings) done(std::move(status), nullptr);
  endings.clear();
}

// --- Calling ---

void SessionCore::Call(std::unique_ptr<v1::SessionItem> item,
                       const CallOptions& options, uint64_t stream,
                       BrokerSession::ItemDone done) {
  auto entry = std::make_unique<SessionEntry>();
  entry->item = std::move(item);
  entry->deadline =
      SaturatingAdd(MonotonicNow(),
                    options.timeout.value_or(options_.client.default_timeout));
  entry->stream = stream;
  entry->done = std::move(done);
  Submit(std::move(entry));
}

void SessionCore::Submit(Entry entry) {
  absl::Status refused;
  {
    MutexLock lock(&mu_);
    if (closed_) {
      refused = LocalError(absl::StatusCode::kCancelled, "SESSION_CLOSED",
                           "the BrokerSession is gone", false);
    } else if (entry->stream != 0 &&
               (state_ != State::kUp || entry->stream != number_)) {
      refused = LeaseLost();
    } else if (queue_.size() >= static_cast<size_t>(options_.max_queued)) {
      refused = LocalError(
          absl::StatusCode::kResourceExhausted, "SESSION_QUEUE_FULL",
          absl::StrCat(queue_.size(), " calls wait to be sent"), false);
    } else {
      if (entry->done != nullptr) WakeByLocked(entry->deadline);
      queue_.push_back(std::move(entry));
    }
  }
  if (refused.ok()) return Pump();
  if (entry->done != nullptr) entry->done(std::move(refused), nullptr);
}

uint64_t SessionCore::open_stream() const {
  MutexLock lock(&mu_);
  return state_ == State::kUp && !closed_ ? number_ : 0;
}

void SessionCore::Close() {
  Endings endings;
  std::shared_ptr<grpc::Alarm> alarm;
  SessionStream* stream = nullptr;
  {
    MutexLock lock(&mu_);
    closed_ = true;
    const auto end = [&endings](Entry& entry, bool written) {
      if (entry->done == nullptr) return;
      endings.emplace_back(
          std::move(entry->done),
          LocalError(absl::StatusCode::kCancelled, "SESSION_CLOSED",
                     "the BrokerSession is gone", written));
    };
    for (Entry& entry : queue_) end(entry, false);
    for (auto& [id, entry] : sent_) end(entry, true);
    queue_.clear();
    sent_.clear();
    alarm = std::move(alarm_);
    if (stream_ != nullptr && !stream_->ended) {
      stream = stream_;
      ++stream->users;
    }
  }
  if (stream != nullptr) {
    stream->Cancel();
    LetGo(stream);
  }
  Deliver(endings);
  if (alarm != nullptr) alarm->Cancel();
  {
    MutexLock lock(&mu_);
    while (streams_ != 0 || corked_) lock.Wait(&changed_);
  }
  stub_.reset();
  channel_.reset();
}

// --- Sending ---

void SessionCore::Pump() {
  while (true) {
    SessionStream::Batch batch;
    SessionStream* stream;
    bool open = false;
    {
      MutexLock lock(&mu_);
      if (closed_ || queue_.empty()) return;
      if (state_ == State::kDown) {
        const Instant now = MonotonicNow();
        // This backoff is for a reachable broker; gRPC has its own for
        // connecting.
        if (now < open_after_ && connected()) return WakeByLocked(open_after_);
        OpenLocked(now);
        open = true;
        stream = stream_;
      } else {
        stream = TakeBatchLocked(&batch);
        if (stream == nullptr) return;
      }
      ++stream->users;
    }
    if (open) {
      stream->Open(stub_.get(), stream->waits);
    } else {
      stream->Write(std::move(batch));
    }
    LetGo(stream);
  }
}

void SessionCore::OpenLocked(Instant now) {
  state_ = State::kConnecting;
  ++number_;
  stream_ = new SessionStream(shared_from_this());
  ++streams_;
  give_up_at_ = kNever;
  if (waited_ || connected()) return;
  const Duration wait = ConnectWaitLocked(now);
  if (wait <= Duration(0)) return;
  waited_ = true;
  stream_->waits = true;
  give_up_at_ = now + wait;
  WakeByLocked(give_up_at_);
}

bool SessionCore::connected() const {
  return channel_->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY;
}

SessionStream* SessionCore::TakeBatchLocked(SessionStream::Batch* batch) {
  if (state_ != State::kUp || writing_ || corked_) return nullptr;
  const Instant now = MonotonicNow();
  size_t bytes = 0;
  while (!queue_.empty() && batch->size() < kMaxBatchItems &&
         sent_.size() < static_cast<size_t>(options_.max_in_flight)) {
    Entry& entry = queue_.front();
    const size_t size = SizeOf(*entry->item);
    if (!batch->empty() && bytes + size > kMaxBatchBytes) break;
    // A call past its deadline is left to the alarm, which is due.
    if (!PrepareLocked(entry.get(), now)) break;
    bytes += size;
    batch->push_back(entry->item);
    sent_.emplace(entry->item->id(), std::move(entry));
    queue_.pop_front();
  }
  if (batch->empty()) return nullptr;
  writing_ = true;
  return stream_;
}

bool SessionCore::PrepareLocked(SessionEntry* entry, Instant now) {
  v1::SessionItem& item = *entry->item;
  if (entry->done != nullptr) {
    const Duration left = entry->deadline - now;
    const Duration most = LessMargin(left);
    if (most <= Duration(0)) return false;
    if (item.has_execute()) {
      const v1::ExecuteRequest& execute = item.execute();
      *item.mutable_execute()->mutable_timeout() =
          Capped(execute.has_timeout(), execute.timeout(), most);
    } else if (item.has_acquire()) {
      const v1::AcquireRequest& acquire = item.acquire();
      *item.mutable_acquire()->mutable_max_wait() =
          Capped(acquire.has_max_wait(), acquire.max_wait(), most);
    }
  }
  item.set_id(++last_id_);
  ++entry->sends;
  return true;
}

void SessionCore::LetGo(SessionStream* stream) {
  {
    MutexLock lock(&mu_);
    if (--stream->users > 0 || !stream->ended) return;
  }
  stream->RemoveHold();
}

// --- The stream's events ---

void SessionCore::OnOpened(SessionStream* stream) {
  {
    MutexLock lock(&mu_);
    if (stream->gave_up) return;  // Being cancelled.
    stream->opened = true;
    if (state_ == State::kConnecting) state_ = State::kUp;
    failures_ = 0;
    waited_ = false;
  }
  Pump();
}

void SessionCore::OnResults(v1::SessionResponse* response) {
  std::vector<std::pair<Entry, v1::SessionResult*>> ready;
  ready.reserve(response->results_size());
  uint64_t number;
  {
    MutexLock lock(&mu_);
    corked_ = true;
    number = number_;
    for (v1::SessionResult& result : *response->mutable_results()) {
      const auto found = sent_.find(result.id());
      if (found == sent_.end()) continue;
      ready.emplace_back(std::move(found->second), &result);
      sent_.erase(found);
    }
  }
  for (auto& [entry, result] : ready) {
    if (entry->done != nullptr) {
      absl::Status status;
      if (result->has_error()) {
        status = MakeStatus(result->error().code(), result->error().message(),
                            result->error().SerializeAsString());
      }
      entry->done(std::move(status), result);
    } else if (result->has_acquire()) {
      // Its caller no longer waits.
      auto late = std::make_unique<SessionEntry>();
      late->item = std::make_shared<v1::SessionItem>();
      late->item->mutable_release()->set_lease_id(
          result->acquire().lease().lease_id());
      late->stream = number;
      Submit(std::move(late));
    }
  }
  {
    MutexLock lock(&mu_);
    corked_ = false;
    if (closed_) changed_.notify_all();
  }
  Pump();
}

void SessionCore::OnWritten() {
  {
    MutexLock lock(&mu_);
    writing_ = false;
  }
  Pump();
}

void SessionCore::OnEnded(SessionStream* stream) {
  {
    MutexLock lock(&mu_);
    state_ = State::kEnded;
    stream->ended = true;
    if (stream->users > 0) return;
  }
  stream->RemoveHold();
}

void SessionCore::OnClosed(SessionStream* stream, const absl::Status& status) {
  Endings endings;
  {
    MutexLock lock(&mu_);
    stream_ = nullptr;
    state_ = State::kDown;
    writing_ = false;
    // Once the wait for a connection is used up, the next attempt does not
    // wait, and so fails with the actual error.
    const bool failed = !stream->opened && !stream->gave_up;
    if (failed) ++failures_;
    open_after_ = MonotonicNow() + Backoff(failures_, options_.client.retry);
    LoseSentLocked(status, &endings);
    const bool hopeless =
        failed &&
        (!MayPass(status) || failures_ >= options_.client.retry.max_attempts);
    if (hopeless) waited_ = false;
    LoseQueuedLocked(hopeless ? &status : nullptr, &endings);
  }
  Deliver(endings);
  Pump();
}

void SessionCore::OnDeleted() {
  MutexLock lock(&mu_);
  --streams_;
  changed_.notify_all();
}

}  // namespace hotline::client
