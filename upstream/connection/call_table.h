// The calls of one connection: their results so far, their deadlines, and the
// news for their handlers.
#ifndef HOTLINE_UPSTREAM_CONNECTION_CALL_TABLE_H_
#define HOTLINE_UPSTREAM_CONNECTION_CALL_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/time.h"
#include "upstream/codec/codec.h"
#include "upstream/connection/probation.h"
#include "upstream/types.h"

namespace hotline::upstream {

// The codec reports events here, under the connection's lock. They are
// collected as CallNews, which the connection delivers on its loop without the
// lock:
//
//   table.set_now(now);
//   codec->Feed(bytes);                     // Calls table.OnHead, OnBody…
//   CallNews news = table.TakeNews();       // Under the lock.
//   news.Deliver(facts);                    // Without it: calls the handlers.
//
// Invariants:
//   1. A call is in the table from Begin until its news is taken. It ends once;
//      its result does not change afterwards.
//   2. Handlers are called from CallNews::Deliver only: with the data that a
//      streamed call has received since the last time, then, if it has ended,
//      with OnDone.
//   3. Without calls the table owns no memory besides itself; the first call
//      needs no allocation either.
//
// Not thread-safe: the connection's lock protects it, CallNews excepted.

// Data received by a streamed call.
struct StreamNews {
  StreamHandler* handler = nullptr;
  StreamId stream = 0;
  int status = 0;  // 0: no head.
  std::vector<Header> headers;
  std::string body;
  std::optional<std::vector<Header>> trailers;
  bool sendable = false;
};

struct Call {
  StreamId stream = 0;  // 0: none. It is also the call's CallId.
  CallHandler* handler = nullptr;
  StreamHandler* streamed = nullptr;  // The same; null for a whole answer.
  StreamNews* news = nullptr;         // Of a streamed call; null: none.
  int64_t max_response_bytes = 0;
  bool truncate = false;
  bool ended = false;  // `result` is final and not delivered.
  // How the memory of a whole answer is metered. `granted` bytes may be held;
  // while `starved`, the call waits for `wanted`, and `held_back` bytes that
  // were received are not consumed.
  AnswerRoom* room = nullptr;  // Null: not metered.
  bool starved = false;
  size_t granted = 2 * Codec::kFirstWindow;
  size_t wanted = 0;
  size_t window = Codec::kFirstWindow;
  size_t held_back = 0;
  Instant deadline = kNever;
  Instant started{};
  Instant first_byte{};
  size_t request_bytes = 0;  // Without framing or compression.
  CallResult result;
};

struct CallNews {
  struct Ending {
    CallHandler* handler = nullptr;
    CallResult result;
  };
  std::vector<std::unique_ptr<StreamNews>> streams;
  std::optional<Ending> first;
  std::vector<std::unique_ptr<Call>> others;

  // Calls the handlers. Once, without any lock. `facts`: of the connection.
  void Deliver(const std::shared_ptr<const ConnectionFacts>& facts);
};

// The result of a call whose request was not written.
CallResult NeverSent(CallError error, std::string why);

class CallTable final : public CodecEvents {
 public:
  // `probation` must outlive the table.
  explicit CallTable(Probation* probation) : probation_(probation) {}

  // Before anything else, and again after an Upgrade. It must outlive its use.
  void SetCodec(Codec* codec) { codec_ = codec; }

  // The time of the event that is being handled.
  Instant now() const { return now_; }
  void set_now(Instant now) { now_ = now; }

  // Whether a call is in progress.
  bool busy() const { return first_runs() || !others_.empty(); }
  // Whether TakeNews has a call's end.
  bool has_ended() const { return first_.ended || !ended_.empty(); }
  // The same for a failed call.
  bool has_failed() const;
  // Whether TakeNews has any news.
  bool has_news() const { return !stream_news_.empty() || has_ended(); }
  // Whether the only stream of its connection waits for room for its answer.
  bool starved() const { return first_.starved; }

  // --- Called by users of the connection ---

  // REQUIRES: the codec can submit. `streamed` is null or `handler`.
  const Call& Begin(const Request& request, CallHandler* handler,
                    StreamHandler* streamed, bool end, Instant now);
  // The next piece of a streamed request. False: no such call. After the flush
  // that follows, TakeHeld says how many bytes are held back.
  bool Send(CallId id, std::string_view piece, bool end);
  size_t TakeHeld();
  // False: no such call.
  bool Consume(CallId id, size_t bytes);
  // False: the call does not wait for room.
  bool Resume(CallId id);
  bool Cancel(CallId id, CallError why);

  // --- Called by the connection ---

  // `bytes` were received, or written, on a connection with a single stream.
  void OnWireRead(size_t bytes);
  void OnWireWritten(size_t bytes) { first_.result.bytes_written += bytes; }

  // The earliest deadline of a call.
  Instant Due() const;
  // Ends the calls whose deadline has passed. Returns how many.
  int Expire();
  void EndAll(CallError error, const std::string& message);
  // Ends all calls because the connection is lost. `refused`: the peer refused
  // the TLS handshake, and has processed nothing.
  void LoseAll(const std::string& why, bool refused);

  CallNews TakeNews();
  // The number of calls that failed since the last time on a connection that
  // stays open.
  int TakeErrors() { return std::exchange(errors_, 0); }
  // How long the peer keeps an idle connection, by its Keep-Alive header. 0:
  // not changed since the last time.
  Duration TakeKeepAlive() {
    return std::exchange(keep_alive_is_new_, false) ? keep_alive_ : Duration(0);
  }
  // A tunnel was ended before its time.
  bool cut_off() const { return cut_off_; }

  // CodecEvents:
  void OnHead(StreamId stream, int status,
              std::vector<Header> headers) override;
  void OnBody(StreamId stream, std::string_view piece) override;
  void OnTrailers(StreamId stream, std::vector<Header> trailers) override;
  void OnComplete(StreamId stream) override;
  void OnStreamError(StreamId stream, CallError error, Verdict verdict,
                     std::string message) override;
  void OnSendable(StreamId stream) override;

 private:
  bool first_runs() const { return first_.stream != 0 && !first_.ended; }
  // Null: no such call, or it has ended.
  Call* Find(StreamId stream);
  Call* FindStreamed(CallId id);
  // The result is final.
  void Finish(Call* call);
  // Cancels the stream and finishes the call with an error.
  void End(Call* call, CallError error, Verdict verdict, std::string message);
  Verdict VerdictOf(const Call& call) const {
    return codec_->VerdictOf(call.stream);
  }
  void Lose(Call* call, const std::string& why, bool refused);
  // Applies `end` to every call under way; it must end the call.
  template <typename F>
  void ForAll(F end);

  StreamNews* NewsOf(Call* call);
  void NoteKeepAlive(const std::vector<Header>& headers);
  void TakeBody(Call* call, std::string_view piece);
  // Requests room for the next bytes, and consumes `piece` more bytes unless it
  // is refused.
  void Meter(Call* call, size_t piece);
  void Grant(Call* call);

  Codec* codec_ = nullptr;
  Probation* const probation_;
  Instant now_{};

  Call first_;  // The only one of a connection that has a single stream.
  absl::flat_hash_map<StreamId, std::unique_ptr<Call>> others_;
  std::vector<std::unique_ptr<Call>> ended_;  // Out of others_.
  std::vector<std::unique_ptr<StreamNews>> stream_news_;
  StreamId sending_ = 0;  // Between Send and TakeHeld.
  size_t held_ = 0;
  int errors_ = 0;
  Duration keep_alive_{0};
  bool keep_alive_is_new_ = false;
  bool cut_off_ = false;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_CALL_TABLE_H_
