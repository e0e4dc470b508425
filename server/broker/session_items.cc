// The items of a session's messages.
#include <utility>

#include "server/broker/session.h"

namespace hotline::server {
namespace {

// Costs, in units of a turn.
constexpr int kInline = 1;
constexpr int kCall = 16;

// How often leases are searched for ended ones.
constexpr Duration kSearchInterval = std::chrono::milliseconds(100);

ErrorPtr OverLimit(std::string message) {
  ErrorPtr error = MakeError("QUOTA", std::move(message));
  error->retry_after = std::chrono::milliseconds(50);
  return error;
}

ErrorPtr TooManyInFlight(int limit) {
  return OverLimit("more than " + std::to_string(limit) + " items in flight");
}

void AddError(uint64_t id, const ErrorPtr& error, Outgoing* out) {
  v1::SessionResult* const result = out->NewResult(id);
  FillStatus(*error, result->mutable_error());
  out->Add(*result);
}

}  // namespace

ErrorPtr Session::Refusal(const v1::SessionItem& item) {
  if (next_ > limits_.max_items_per_message) {
    return OverLimit("more than " +
                     std::to_string(limits_.max_items_per_message) +
                     " items in one message");
  }
  if (item.id() == 0) {
    return FromInput({"BAD_ITEM_ID", "id", "must not be 0"});
  }
  if (item.call_case() == v1::SessionItem::CALL_NOT_SET) {
    return FromInput({"BAD_ITEM", "call", "asks for nothing that is known"});
  }
  MutexLock lock(&mu_);
  if (state_ == State::kEnding) return DrainingError();
  if (calls_.contains(item.id())) {
    return FromInput({"DUPLICATE_ITEM_ID", "id",
                      "an item with this id is in flight; it goes on"});
  }
  return nullptr;
}

int Session::Handle(const v1::SessionItem& item, Outgoing* out) {
  if (const ErrorPtr refused = Refusal(item)) {
    AddError(item.id(), refused, out);
    return kInline;
  }
  switch (item.call_case()) {
    case v1::SessionItem::kAcquire:
      return HandleAcquire(item, out);
    case v1::SessionItem::kExecute:
      return HandleExecute(item, out);
    case v1::SessionItem::kRelease:
      HandleRelease(item, out);
      break;
    case v1::SessionItem::kRenew:
      HandleRenew(item, out);
      break;
    case v1::SessionItem::kCancel:
      HandleCancel(item, out);
      break;
    case v1::SessionItem::CALL_NOT_SET:
      break;
  }
  return kInline;
}

int Session::HandleAcquire(const v1::SessionItem& item, Outgoing* out) {
  if (leaving_) return kInline;
  if (!HasRoomForLease()) {
    AddError(item.id(),
             OverLimit("more than " + std::to_string(limits_.max_leases) +
                       " leases in one session"),
             out);
    return kInline;
  }
  v1::SessionResult* const result = out->NewResult(item.id());
  LeaseId lease;
  if (broker_->AcquireIdle(item.acquire(), context_, result->mutable_acquire(),
                           &lease)) {
    out->Add(*result);
    bool ended;
    {
      MutexLock lock(&mu_);
      ended = state_ == State::kCancelled;
      if (!ended) leases_.insert(lease);
    }
    if (ended) broker_->Reclaim({lease}, context_.arrival);
    return kInline;
  }
  SessionCall* entry = AddCall(item.id(), /*acquires=*/true);
  if (entry == nullptr) {
    AddError(item.id(), TooManyInFlight(limits_.max_items_in_flight), out);
    return kInline;
  }
  StartCall(entry, broker_->NewAcquire(&item.acquire(), entry->NewAcquired(),
                                       context_, entry));
  return kCall;
}

int Session::HandleExecute(const v1::SessionItem& item, Outgoing* out) {
  SessionCall* entry = AddCall(item.id(), /*acquires=*/false);
  if (entry == nullptr) {
    AddError(item.id(), TooManyInFlight(limits_.max_items_in_flight), out);
    return kInline;
  }
  StartCall(entry, broker_->NewExecute(&item.execute(), entry->NewAnswer(),
                                       context_, entry));
  return kCall;
}

void Session::HandleRelease(const v1::SessionItem& item, Outgoing* out) {
  v1::SessionResult* const result = out->NewResult(item.id());
  LeaseId lease;
  const ErrorPtr error = broker_->Release(
      item.release(), result->mutable_release(), context_, &lease);
  if (error != nullptr) FillStatus(*error, result->mutable_error());
  out->Add(*result);
  if (error != nullptr) return;
  MutexLock lock(&mu_);
  leases_.erase(lease);
}

void Session::HandleRenew(const v1::SessionItem& item, Outgoing* out) {
  v1::SessionResult* const result = out->NewResult(item.id());
  if (const ErrorPtr error =
          broker_->Renew(item.renew(), result->mutable_renew(), context_)) {
    FillStatus(*error, result->mutable_error());
  }
  out->Add(*result);
}

void Session::HandleCancel(const v1::SessionItem& item, Outgoing* out) {
  std::shared_ptr<Call> call;
  {
    MutexLock lock(&mu_);
    const auto found = calls_.find(item.cancel().id());
    if (found != calls_.end()) call = found->second->call;
  }
  v1::SessionResult* const result = out->NewResult(item.id());
  result->mutable_cancel()->set_found(call != nullptr);
  out->Add(*result);
  if (call != nullptr) call->Cancel();
}

// --- Calls ---

SessionCall* Session::AddCall(uint64_t id, bool acquires) {
  if (batch_->bytes == 0) {
    batch_->bytes = static_cast<int64_t>(batch_->request->ByteSizeLong() +
                                         batch_->arena.get()->SpaceAllocated());
  }
  auto entry = std::make_unique<SessionCall>(
      std::static_pointer_cast<Session>(shared_from_this()), id, batch_);
  SessionCall* const raw = entry.get();
  MutexLock lock(&mu_);
  if (calls_.size() >= static_cast<size_t>(limits_.max_items_in_flight)) {
    return nullptr;
  }
  calls_.emplace(id, std::move(entry));
  HoldLocked(batch_);
  if (acquires) ++acquiring_;
  return raw;
}

void Session::StartCall(SessionCall* entry, std::shared_ptr<Call> call) {
  State state;
  {
    MutexLock lock(&mu_);
    entry->call = call;
    state = state_;
  }
  // If the session was ended meanwhile, this call was not among its calls.
  if (state == State::kCancelled) call->Cancel();
  if (state == State::kEnding) call->Abort();
  call->Start();
}

// --- Leases ---

bool Session::HasRoomForLease() {
  const auto has_room = [this] {
    MutexLock lock(&mu_);
    return leases_.size() + static_cast<size_t>(acquiring_) <
           static_cast<size_t>(limits_.max_leases);
  };
  if (has_room()) return true;
  if (context_.arrival < next_search_) return false;
  next_search_ = context_.arrival + kSearchInterval;
  ForgetEndedLeases();
  return has_room();
}

void Session::ForgetEndedLeases() {
  std::vector<LeaseId> leases;
  {
    MutexLock lock(&mu_);
    leases.assign(leases_.begin(), leases_.end());
  }
  // Without the lock: checking a lease may expire it and so serve a waiter.
  std::erase_if(leases, [this](const LeaseId& lease) {
    return broker_->IsHeld(lease, context_.arrival);
  });
  MutexLock lock(&mu_);
  for (const LeaseId& lease : leases) leases_.erase(lease);
}

}  // namespace hotline::server
