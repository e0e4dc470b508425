// A session's messages, from reading to writing. Part of session.h.
//
// Not thread-safe: Session guards them.
#ifndef HOTLINE_SERVER_BROKER_SESSION_MESSAGES_H_
#define HOTLINE_SERVER_BROKER_SESSION_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/recycling.h"
#include "google/protobuf/arena.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/error.h"
#include "server/broker/execute_answer.h"

namespace hotline::server {

class Session;

// An arena whose first block is part of it: small messages cost no allocation,
// and emptying it costs nothing.
template <size_t kBytes>
class BlockArena {
 public:
  BlockArena() : arena_(block_, kBytes) {}

  google::protobuf::Arena* get() { return &arena_; }

 private:
  alignas(8) char block_[kBytes];
  google::protobuf::Arena arena_;
};

// A message that was read. It lives until its turn and its calls are over.
struct Batch {
  Batch() { Clear(); }
  void Clear() {
    arena.get()->Reset();
    request =
        google::protobuf::Arena::CreateMessage<v1::SessionRequest>(arena.get());
    holders = 0;
    bytes = 0;
    counted = false;
  }

  BlockArena<16 << 10> arena;
  v1::SessionRequest* request = nullptr;
  int holders = 0;       // The turn, and items in flight.
  int64_t bytes = 0;     // Approximate; known once a call holds it.
  bool counted = false;  // Against the session's limit.
};

// A message to be written: results, encoded, until it is full.
class Outgoing {
 public:
  // Callers accept 4 MiB by default, and one result has at most 3 MiB of body.
  static constexpr size_t kFull = 512 << 10;

  bool empty() const { return message_.empty(); }
  bool HasRoom(size_t more) const {
    return empty() || message_.size() + more <= kFull;
  }

  // A result to fill in and Add; it lives until Clear.
  v1::SessionResult* NewResult(uint64_t id) {
    auto* const result =
        google::protobuf::Arena::CreateMessage<v1::SessionResult>(arena_.get());
    result->set_id(id);
    return result;
  }
  void Add(const v1::SessionResult& result) {
    Add(result, result.ByteSizeLong());
  }
  // `size`: of the result or the answer, which was just asked for its ByteSize.
  void Add(const v1::SessionResult& result, size_t size);
  // Adds an item's answer. `call` is kept until Clear: it accounts for the
  // memory of its answer.
  void Add(uint64_t id, const ExecuteAnswer& answer, size_t size,
           std::shared_ptr<Call> call);
  void Clear();

  // A v1.SessionResponse.
  const std::string& message() const { return message_; }
  int64_t size() const { return static_cast<int64_t>(message_.size()); }

  int64_t counted = 0;  // Bytes counted against the session's limit.

 private:
  // Makes room for a result of `size` bytes, after its tag and length.
  uint8_t* Extend(size_t size);

  BlockArena<16 << 10> arena_;
  std::string message_;
  std::vector<std::shared_ptr<Call>> calls_;
};

// An item in flight, with its answer.
class SessionCall final : public Completion, public Recycled<SessionCall> {
 public:
  SessionCall(std::shared_ptr<Session> session, uint64_t id, Batch* batch)
      : session(std::move(session)), id(id), batch(batch) {}

  ExecuteAnswer* NewAnswer() { return &answer_.emplace(arena_.get()); }
  v1::AcquireResponse* NewAcquired() { return NewResult()->mutable_acquire(); }
  // Of an Acquire.
  const v1::AcquireResponse& acquired() const { return result_->acquire(); }
  bool acquires() const { return !answer_.has_value(); }

  // Completion:
  void OnComplete(ErrorPtr error) override;

  // After the completion: the item's result is this error.
  void Fail(const Error& error) {
    FillStatus(error, NewResult()->mutable_error());
  }
  size_t ByteSize() const {
    return result_ != nullptr ? result_->ByteSizeLong() : answer_->ByteSize();
  }
  // `size`: ByteSize().
  void AddTo(Outgoing* out, size_t size) {
    if (result_ != nullptr) return out->Add(*result_, size);
    out->Add(id, *answer_, size, std::move(call));
  }

  const std::shared_ptr<Session> session;
  const uint64_t id;
  Batch* const batch;
  std::shared_ptr<Call> call;

 private:
  v1::SessionResult* NewResult() {
    result_ =
        google::protobuf::Arena::CreateMessage<v1::SessionResult>(arena_.get());
    result_->set_id(id);
    return result_;
  }

  BlockArena<2 << 10> arena_;
  std::optional<ExecuteAnswer> answer_;  // Of an Execute.
  // Of an Acquire, or the error of either.
  v1::SessionResult* result_ = nullptr;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_SESSION_MESSAGES_H_
