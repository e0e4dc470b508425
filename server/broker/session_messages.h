// A session's messages, from reading to writing. Part of session.h.
//
// Not thread-safe: Session guards them.
#ifndef HOTLINE_SERVER_BROKER_SESSION_MESSAGES_H_
#define HOTLINE_SERVER_BROKER_SESSION_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "google/protobuf/arena.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"

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

// An item in flight, with its result.
class SessionCall final : public Completion {
 public:
  SessionCall(std::shared_ptr<Session> session, uint64_t id, Batch* batch)
      : session(std::move(session)), id(id), batch(batch) {
    result =
        google::protobuf::Arena::CreateMessage<v1::SessionResult>(arena.get());
    result->set_id(id);
  }

  // Completion:
  void OnComplete(ErrorPtr error) override;

  const std::shared_ptr<Session> session;
  const uint64_t id;
  Batch* const batch;
  std::shared_ptr<Call> call;
  bool acquires = false;
  v1::SessionResult* result = nullptr;

 private:
  BlockArena<2 << 10> arena;
};

// A message to be written. Results are added until it is full.
struct Outgoing {
  // Callers accept 4 MiB by default, and one result has at most 3 MiB of body.
  static constexpr int64_t kFull = 512 << 10;

  Outgoing() { Clear(); }
  void Clear() {
    arena.get()->Reset();
    calls.clear();
    message = google::protobuf::Arena::CreateMessage<v1::SessionResponse>(
        arena.get());
    bytes = counted = 0;
  }

  bool empty() const { return message->results_size() == 0; }
  bool HasRoom(int64_t more) const { return empty() || bytes + more <= kFull; }

  v1::SessionResult* Add(uint64_t id, int64_t size) {
    v1::SessionResult* result = message->add_results();
    result->set_id(id);
    bytes += size;
    return result;
  }
  void TakeBackLast(int64_t size) {
    message->mutable_results()->RemoveLast();
    bytes -= size;
  }
  // Adds the result of a call, and keeps the call with it.
  void Add(std::unique_ptr<SessionCall> call, int64_t size) {
    message->mutable_results()->UnsafeArenaAddAllocated(call->result);
    calls.push_back(std::move(call));
    bytes += size;
  }

  BlockArena<16 << 10> arena;
  v1::SessionResponse* message = nullptr;
  std::vector<std::unique_ptr<SessionCall>> calls;
  int64_t bytes = 0;    // Approximate.
  int64_t counted = 0;  // Of those, counted against the session's limit.
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_SESSION_MESSAGES_H_
