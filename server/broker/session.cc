#include "server/broker/session.h"

#include <utility>

namespace hotline::server {
namespace {

// The work of one turn. A unit is an item that is answered at once (about a
// microsecond); a call costs more, as it writes to its upstream.
constexpr int kTurn = 256;

}  // namespace

void SessionCall::OnComplete(ErrorPtr error) {
  session->OnCallDone(this, std::move(error));
}

std::shared_ptr<Session> Session::Start(Broker* broker, CallContext context,
                                        SessionTransport* transport) {
  auto session = std::shared_ptr<Session>(
      new Session(broker, std::move(context), transport));
  // Before AddSession, which ends the session if a drain has begun.
  if (ErrorPtr denied = broker->AuthorizeSession(session->context_)) {
    {
      MutexLock lock(&session->mu_);
      session->state_ = State::kFinished;
    }
    transport->Finish(std::move(denied));
    return session;
  }
  auto holder = std::make_shared<pool::Holder>();
  holder->trace = session->context_.traceparent;
  holder->session = broker->AddSession(session.get());
  session->context_.holder = std::move(holder);
  session->Pump();
  return session;
}

Session::Session(Broker* broker, CallContext context,
                 SessionTransport* transport)
    : broker_(broker),
      transport_(transport),
      limits_(broker->settings()->session),
      context_(std::move(context)) {
  context_.answers =
      std::make_shared<AnswerMemory::Caller>(limits_.max_buffered_bytes);
}

Session::~Session() {
  broker_->RemoveSession(this);
  delete batch_;  // A read was under way at the end.
}

// --- From the transport ---

void Session::OnRead(bool ok, Instant now) {
  const auto keep = shared_from_this();
  bool work;
  {
    MutexLock lock(&mu_);
    reading_ = false;
    half_closed_ = half_closed_ || !ok;
    work = ok && state_ == State::kOpen;
    if (work) {
      turn_ = true;
      HoldLocked(batch_);
    } else {
      spare_batch_.reset(std::exchange(batch_, nullptr));
    }
  }
  if (!work) return Pump();
  context_.arrival = now;
  next_ = 0;
  OnTurn();
}

void Session::OnTurn() {
  const auto keep = shared_from_this();
  context_.settings = broker_->settings();
  std::unique_ptr<Outgoing> out;
  {
    MutexLock lock(&mu_);
    out = open_ != nullptr ? std::move(open_) : NewOutgoingLocked();
  }
  const v1::SessionRequest& request = *batch_->request;
  for (int left = kTurn; next_ < request.items_size() && left > 0;) {
    const v1::SessionItem& item = request.items(next_++);
    left -= Handle(item, out.get());
  }
  {
    MutexLock lock(&mu_);
    PutLocked(std::move(out));
    if (next_ < request.items_size()) {
      paused_ = true;
    } else {
      EndTurnLocked();
    }
  }
  Pump();
}

void Session::OnWritten() {
  const auto keep = shared_from_this();
  std::unique_ptr<Outgoing> done;
  {
    MutexLock lock(&mu_);
    done = std::move(written_);
    held_ -= done->counted;
  }
  // Frees large results before the next message is filled.
  done->Clear();
  {
    MutexLock lock(&mu_);
    writing_ = false;
    if (spare_out_ == nullptr) spare_out_ = std::move(done);
  }
  Pump();
}

void Session::OnCancel() {
  const auto keep = shared_from_this();
  std::vector<std::shared_ptr<Call>> calls;
  std::vector<LeaseId> leases;
  {
    MutexLock lock(&mu_);
    if (state_ == State::kCancelled || state_ == State::kFinished) return;
    state_ = State::kCancelled;
    calls = CallsLocked();
    leases = TakeLeasesLocked();
  }
  for (const auto& call : calls) call->Cancel();
  broker_->Reclaim(leases, MonotonicNow());
  Pump();
}

// --- From the process ---

void Session::OnDrain() {
  const auto keep = shared_from_this();
  {
    MutexLock lock(&mu_);
    draining_ = true;
  }
  Pump();
}

void Session::OnLeave() {
  leaving_ = true;
  OnDrain();
}

void Session::OnAbort() {
  const auto keep = shared_from_this();
  std::vector<std::shared_ptr<Call>> calls;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    state_ = State::kEnding;
    calls = CallsLocked();
  }
  for (const auto& call : calls) call->Abort();
  Pump();
}

// --- From calls ---

void Session::OnCallDone(SessionCall* entry, ErrorPtr error) {
  const auto keep = shared_from_this();
  std::optional<LeaseId> lease;
  if (error != nullptr) {
    entry->Fail(*error);
  } else if (entry->acquires()) {
    lease = PresentedLease(entry->acquired().lease().lease_id(), context_);
  }
  const size_t size = entry->ByteSize();
  std::unique_ptr<SessionCall> mine;
  bool ended;
  {
    MutexLock lock(&mu_);
    const auto found = calls_.find(entry->id);
    mine = std::move(found->second);
    calls_.erase(found);
    if (mine->acquires()) --acquiring_;
    LetGoLocked(mine->batch);
    ended = state_ == State::kCancelled || state_ == State::kFinished;
    if (!ended) {
      if (lease.has_value()) leases_.insert(*lease);
      if (open_ != nullptr && !open_->HasRoom(size)) {
        full_.push_back(std::move(open_));
      }
      auto out = open_ != nullptr ? std::move(open_) : NewOutgoingLocked();
      mine->AddTo(out.get(), size);
      PutLocked(std::move(out));
    }
  }
  if (ended && lease.has_value()) broker_->Reclaim({*lease}, MonotonicNow());
  Pump();
}

// --- Actions ---

void Session::Pump() {
  while (true) {
    Action action;
    State state;
    const std::string* message = nullptr;
    {
      MutexLock lock(&mu_);
      state = state_;
      action = DecideLocked();
      if (action == Action::kNone) return;
      if (action == Action::kWrite) message = &written_->message();
      if (action == Action::kFinish) {
        state = std::exchange(state_, State::kFinished);
      } else {
        ++transport_calls_;
      }
    }
    switch (action) {
      case Action::kWrite:
        transport_->Write(message);
        break;
      case Action::kTurn:
        transport_->Yield();
        break;
      case Action::kRead:
        batch_->Clear();
        transport_->Read(batch_->request);
        break;
      case Action::kFinish:
        return DoFinish(state);
      case Action::kNone:
        break;
    }
    MutexLock lock(&mu_);
    --transport_calls_;
  }
}

Session::Action Session::DecideLocked() {
  if (state_ == State::kFinished) return Action::kNone;
  if (state_ == State::kCancelled) {
    if (paused_) EndTurnLocked();
    const bool busy = writing_ || turn_ || transport_calls_ > 0;
    return busy ? Action::kNone : Action::kFinish;
  }
  if (!writing_ && HasResultsLocked()) {
    if (full_.empty()) full_.push_back(std::move(open_));
    written_ = std::move(full_.front());
    full_.pop_front();
    writing_ = true;
    return Action::kWrite;
  }
  const bool nothing_runs = calls_.empty() && !writing_ && !HasResultsLocked();
  // There is room; or nothing is left whose end would make room.
  const bool room = held_ < limits_.max_buffered_bytes || nothing_runs;
  if (paused_ && room) {
    paused_ = false;
    return Action::kTurn;
  }
  if (nothing_runs && !turn_ && draining_ && leases_.empty() &&
      state_ == State::kOpen) {
    state_ = State::kEnding;
  }
  if (state_ == State::kEnding || half_closed_) {
    const bool over = nothing_runs && !turn_ && transport_calls_ == 0;
    return over ? Action::kFinish : Action::kNone;
  }
  if (reading_ || turn_ || !room) return Action::kNone;
  if (leaving_ && leases_.empty()) return Action::kNone;
  reading_ = true;
  batch_ = spare_batch_ != nullptr ? spare_batch_.release() : new Batch;
  return Action::kRead;
}

// `before`: the state that led to the end.
void Session::DoFinish(State before) {
  std::vector<LeaseId> leases;
  std::deque<std::unique_ptr<Outgoing>> unread;
  {
    MutexLock lock(&mu_);
    leases = TakeLeasesLocked();
    unread.swap(full_);
    unread.push_back(std::move(open_));
  }
  broker_->Reclaim(leases, MonotonicNow());
  broker_->RemoveSession(this);
  // Unsent results refer to the session, and it to them: break the circle.
  unread.clear();
  ErrorPtr error;
  if (before == State::kEnding) error = DrainingError();
  if (before == State::kCancelled) {
    error = MakeError("CANCELLED", "the caller is gone");
  }
  transport_->Finish(std::move(error));
}

// --- State ---

std::vector<std::shared_ptr<Call>> Session::CallsLocked() const {
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto& [id, entry] : calls_) {
    // A call that is about to start checks the state itself (StartCall).
    if (entry->call != nullptr) calls.push_back(entry->call);
  }
  return calls;
}

std::vector<LeaseId> Session::TakeLeasesLocked() {
  std::vector<LeaseId> leases(leases_.begin(), leases_.end());
  leases_.clear();
  return leases;
}

bool Session::HasResultsLocked() const {
  return !full_.empty() || (open_ != nullptr && !open_->empty());
}

std::unique_ptr<Outgoing> Session::NewOutgoingLocked() {
  return spare_out_ != nullptr ? std::move(spare_out_)
                               : std::make_unique<Outgoing>();
}

void Session::PutLocked(std::unique_ptr<Outgoing> out) {
  held_ += out->size() - out->counted;
  out->counted = out->size();
  if (out->empty()) {
    if (spare_out_ == nullptr) spare_out_ = std::move(out);
  } else if (open_ == nullptr) {
    open_ = std::move(out);
  } else {
    full_.push_back(std::move(out));
  }
}

void Session::HoldLocked(Batch* batch) {
  ++batch->holders;
  if (batch->counted || batch->bytes == 0) return;
  batch->counted = true;
  held_ += batch->bytes;
}

void Session::LetGoLocked(Batch* batch) {
  if (--batch->holders > 0) return;
  if (batch->counted) held_ -= batch->bytes;
  if (spare_batch_ == nullptr) {
    spare_batch_.reset(batch);
  } else {
    delete batch;
  }
}

void Session::EndTurnLocked() {
  paused_ = turn_ = false;
  LetGoLocked(std::exchange(batch_, nullptr));
}

}  // namespace hotline::server
