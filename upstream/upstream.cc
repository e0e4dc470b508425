#include "upstream/upstream.h"

#include <algorithm>
#include <utility>

#include "base/mutex.h"
#include "upstream/dial/tls_profiles.h"
#include "upstream/upstream_impl.h"

namespace hotline::upstream {
namespace {

CallResult Gone() {
  CallResult result;
  result.error = CallError::kConnectionGone;
  result.verdict = Verdict::kNotSent;
  result.message = "the connection is gone";
  return result;
}

}  // namespace

Upstream::Upstream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Upstream::~Upstream() { Stop(); }

absl::Status Upstream::CheckOptions(Options options) {
  return MakeLive(std::move(options), net::TlsSessions::Create(0),
                  /*before=*/nullptr)
      .status();
}

absl::StatusOr<std::unique_ptr<Upstream>> Upstream::Create(Options options) {
  auto sessions = net::TlsSessions::Create(options.max_tls_sessions);
  auto live = MakeLive(std::move(options), sessions, /*before=*/nullptr);
  if (!live.ok()) return live.status();
  auto impl = std::make_unique<Impl>(*std::move(live), std::move(sessions));
  if (absl::Status s = impl->Init(); !s.ok()) return s;
  return std::unique_ptr<Upstream>(new Upstream(std::move(impl)));
}

void Upstream::Start(pool::TransportEvents* events,
                     std::function<void(int, Instant)> tick) {
  impl_->Start(events, std::move(tick));
}

void Upstream::Stop() { impl_->Stop(); }

absl::Status Upstream::Reconfigure(Options options) {
  auto live =
      MakeLive(std::move(options), impl_->sessions_, impl_->live().get());
  if (!live.ok()) return live.status();
  impl_->sessions_->SetCapacity((*live)->options.max_tls_sessions);
  impl_->set_live(*std::move(live));
  return absl::OkStatus();
}

absl::StatusOr<bool> Upstream::RefreshTlsFiles() {
  const auto live = impl_->live();
  std::string error;
  auto fresh = live->dial->tls->Refresh(&error);
  const bool changed = fresh != nullptr;
  if (changed) {
    auto dial = std::make_shared<DialSettings>(*live->dial);
    dial->tls = std::move(fresh);
    impl_->set_live(
        std::make_shared<const Live>(Live{live->options, std::move(dial)}));
  }
  if (!error.empty()) return absl::InvalidArgumentError(error);
  return changed;
}

CallId Upstream::StartCall(pool::Handle handle, const Request& request,
                           CallHandler* handler, Instant now) {
  const auto connection = impl_->table_.Find(handle);
  if (connection != nullptr) {
    return connection->StartCall(request, handler, now);
  }
  handler->OnDone(Gone());
  return 0;
}

CallId Upstream::OpenStream(pool::Handle handle, const Request& head, bool end,
                            StreamHandler* handler, Instant now) {
  const auto connection = impl_->table_.Find(handle);
  if (connection != nullptr) {
    return connection->OpenStream(head, end, handler, now);
  }
  handler->OnDone(Gone());
  return 0;
}

size_t Upstream::SendBody(pool::Handle handle, CallId call,
                          std::string_view piece, bool end) {
  const auto connection = impl_->table_.Find(handle);
  return connection == nullptr ? 0 : connection->SendBody(call, piece, end);
}

void Upstream::Consume(pool::Handle handle, CallId call, size_t bytes) {
  const auto connection = impl_->table_.Find(handle);
  if (connection != nullptr) connection->Consume(call, bytes);
}

void Upstream::ResumeAnswer(pool::Handle handle, CallId call) {
  const auto connection = impl_->table_.Find(handle);
  if (connection != nullptr) connection->ResumeAnswer(call);
}

void Upstream::CancelCall(pool::Handle handle, CallId call, CallError why) {
  const auto connection = impl_->table_.Find(handle);
  if (connection != nullptr) connection->CancelCall(call, why);
}

std::shared_ptr<const ConnectionFacts> Upstream::Describe(
    pool::Handle handle) const {
  const auto connection = impl_->table_.Find(handle);
  return connection == nullptr ? nullptr : connection->facts();
}

Upstream::Timer Upstream::RunAt(Instant when, absl::AnyInvocable<void()> work) {
  return impl_->RunAt(when, std::move(work));
}

void Upstream::CancelTimer(const Timer& timer) {
  if (timer.sequence == 0) return;
  impl_->loops_[timer.loop]->Cancel({timer.when, timer.sequence});
}

std::vector<net::Loop*> Upstream::loops() const {
  std::vector<net::Loop*> loops;
  for (const auto& loop : impl_->loops_) loops.push_back(loop.get());
  return loops;
}

Duration Upstream::LoopLag() const {
  const Instant now = MonotonicNow();
  Duration most{0};
  for (const auto& loop : impl_->loops_) most = std::max(most, loop->lag(now));
  return most;
}

std::vector<std::pair<std::string, Upstream::Counters>>
Upstream::TargetCounters() const {
  MutexLock lock(&impl_->mu_);
  return {impl_->counters_.begin(), impl_->counters_.end()};
}

std::vector<AddressRow> Upstream::Addresses(const std::string& target) const {
  return impl_->keeper().Rows(target);
}

std::optional<IpAddress> Upstream::AddressOf(pool::Handle handle) const {
  const auto connection = impl_->table_.Find(handle);
  if (connection == nullptr || connection->ticket().epoch == 0) {
    return std::nullopt;
  }
  return connection->ticket().address;
}

bool Upstream::Cool(const std::string& target, const IpAddress& address,
                    Instant until, std::string_view why, Instant now) {
  return impl_->keeper().Cool(target, address, until, why, now);
}

void Upstream::Dial(pool::ConnId id,
                    std::shared_ptr<const pool::HostPoolKey> key) {
  impl_->Dial(id, std::move(key));
}

void Upstream::Probe(pool::ConnId id, pool::Handle handle,
                     std::shared_ptr<const pool::HostPoolKey> key) {
  impl_->Probe(id, handle, std::move(key));
}

void Upstream::Close(pool::ConnId, pool::Handle handle,
                     pool::CloseReason reason) {
  const auto connection = impl_->table_.Find(handle);
  // Gone: the pool has been told.
  if (connection != nullptr) connection->Close(reason);
}

void Upstream::WakeAt(int shard, Instant when) { impl_->WakeAt(shard, when); }

}  // namespace hotline::upstream
