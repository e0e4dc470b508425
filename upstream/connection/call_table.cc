#include "upstream/connection/call_table.h"

#include <algorithm>
#include <charconv>

#include "upstream/codec/http_text.h"

namespace hotline::upstream {
namespace {

// The most that is allocated because a Content-Length announces it.
constexpr size_t kMostReserved = 1 << 20;

// What a well-formed Content-Length announces; 0: nothing.
size_t AnnouncedLength(const std::vector<Header>& headers) {
  for (const Header& header : headers) {
    if (header.name != "content-length") continue;
    size_t length = 0;
    const char* const begin = header.value.data();
    const auto result =
        std::from_chars(begin, begin + header.value.size(), length);
    return result.ec == std::errc() ? length : 0;
  }
  return 0;
}

template <typename Headers>
size_t BytesOf(const Headers& headers) {
  size_t bytes = 0;
  for (const auto& header : headers) {
    bytes += header.name.size() + header.value.size();
  }
  return bytes;
}

size_t LimitOf(const Call& call) {
  return static_cast<size_t>(std::max<int64_t>(call.max_response_bytes, 0));
}

}  // namespace

CallResult NeverSent(CallError error, std::string why) {
  CallResult result;
  result.error = error;
  result.verdict = Verdict::kNotSent;
  result.message = std::move(why);
  return result;
}

void CallNews::Deliver(const std::shared_ptr<const ConnectionFacts>& facts) {
  for (const auto& stream : streams) {
    StreamHandler* const handler = stream->handler;
    if (stream->status != 0) {
      handler->OnHead(stream->status, std::move(stream->headers));
    }
    if (!stream->body.empty()) handler->OnBody(std::move(stream->body));
    if (stream->trailers) handler->OnTrailers(*std::move(stream->trailers));
    if (stream->sendable) handler->OnSendable();
  }
  if (first) {
    first->result.facts = facts;
    first->handler->OnDone(std::move(first->result));
  }
  for (const auto& call : others) {
    call->result.facts = facts;
    call->handler->OnDone(std::move(call->result));
  }
}

bool CallTable::has_failed() const {
  const auto failed = [](const Call& call) {
    return call.result.error != CallError::kNone;
  };
  return failed(first_) ||
         std::any_of(ended_.begin(), ended_.end(),
                     [&](const auto& call) { return failed(*call); });
}

Call* CallTable::Find(StreamId stream) {
  if (stream == 0) return nullptr;
  if (first_.stream == stream) return first_.ended ? nullptr : &first_;
  const auto found = others_.find(stream);
  return found == others_.end() ? nullptr : found->second.get();
}

Call* CallTable::FindStreamed(CallId id) {
  Call* const call = Find(static_cast<StreamId>(id));
  return call == nullptr || call->streamed == nullptr ? nullptr : call;
}

// What users ask for.

const Call& CallTable::Begin(const Request& request, CallHandler* handler,
                             StreamHandler* streamed, bool end, Instant now) {
  const StreamId stream = streamed == nullptr
                              ? codec_->Submit(request)
                              : codec_->OpenStream(request, end);
  if (streamed != nullptr) {
    streamed->call_.store(stream, std::memory_order_relaxed);
  }
  Call* call = &first_;
  if (first_.stream != 0) {
    call =
        others_.emplace(stream, std::make_unique<Call>()).first->second.get();
  }
  call->stream = stream;
  call->handler = handler;
  call->streamed = streamed;
  call->max_response_bytes = request.max_response_bytes;
  call->truncate = request.truncate;
  call->room = request.room;
  call->deadline = request.deadline;
  call->started = now;
  if (codec_->traits().multiplexed) {
    call->request_bytes = request.method.size() + request.authority.size() +
                          request.path.size() + request.body.size() +
                          BytesOf(request.headers);
  }
  return *call;
}

bool CallTable::Send(CallId id, std::string_view piece, bool end) {
  Call* const call = FindStreamed(id);
  if (call == nullptr) return false;
  call->request_bytes += piece.size();
  sending_ = call->stream;
  held_ = codec_->Send(call->stream, piece, end);
  return true;
}

size_t CallTable::TakeHeld() {
  // OnSendable has reset sending_ if the flush made room again.
  return std::exchange(sending_, 0) == 0 ? 0 : held_;
}

bool CallTable::Consume(CallId id, size_t bytes) {
  const Call* const call = FindStreamed(id);
  if (call == nullptr) return false;
  codec_->Consume(call->stream, bytes);
  return true;
}

bool CallTable::Resume(CallId id) {
  Call* const call = Find(static_cast<StreamId>(id));
  if (call == nullptr || !call->starved) return false;
  Grant(call);
  return true;
}

bool CallTable::Cancel(CallId id, CallError why) {
  Call* const call = Find(static_cast<StreamId>(id));
  if (call == nullptr) return false;
  End(call, why, VerdictOf(*call), "the call was cancelled");
  return true;
}

// How calls end.

void CallTable::Finish(Call* call) {
  call->ended = true;
  CallResult& result = call->result;
  if (result.error == CallError::kNone) probation_->OnAnswered();
  if (call->first_byte != Instant{}) {
    result.first_byte = call->first_byte - call->started;
    result.transfer = now_ - call->first_byte;
  }
  if (!codec_->traits().multiplexed) return;
  if (result.verdict == Verdict::kPartial) {
    // Streams share the connection's output, so this is an estimate.
    result.bytes_written = std::max<size_t>(1, call->request_bytes / 2);
  } else if (result.verdict != Verdict::kNotSent) {
    result.bytes_written = call->request_bytes;
  }
  if (call == &first_) return;
  auto node = others_.extract(call->stream);
  ended_.push_back(std::move(node.mapped()));
}

void CallTable::End(Call* call, CallError error, Verdict verdict,
                    std::string message) {
  call->result.error = error;
  call->result.verdict = verdict;
  call->result.message = std::move(message);
  codec_->Cancel(call->stream);
  cut_off_ = codec_->traits().tunnel;
  Finish(call);
}

template <typename F>
void CallTable::ForAll(F end) {
  if (first_runs()) end(&first_);
  while (!others_.empty()) end(others_.begin()->second.get());
}

void CallTable::EndAll(CallError error, const std::string& message) {
  ForAll([&](Call* call) { End(call, error, VerdictOf(*call), message); });
}

void CallTable::LoseAll(const std::string& why, bool refused) {
  ForAll([&](Call* call) { Lose(call, why, refused); });
}

void CallTable::Lose(Call* call, const std::string& why, bool refused) {
  Verdict verdict = VerdictOf(*call);
  const bool unread =
      verdict == Verdict::kPartial || verdict == Verdict::kSentUnknown;
  if (refused && unread) verdict = Verdict::kRefusedByPeer;
  CallError error = CallError::kReset;
  if (refused && verdict != Verdict::kResponseStarted) {
    error = CallError::kTlsRefused;
  } else if (verdict == Verdict::kNotSent) {
    error = CallError::kConnectionGone;
  }
  End(call, error, verdict, why);
}

Instant CallTable::Due() const {
  Instant due = first_runs() ? first_.deadline : kNever;
  for (const auto& [stream, call] : others_) {
    due = std::min(due, call->deadline);
  }
  return due;
}

int CallTable::Expire() {
  std::vector<Call*> late;
  if (first_runs() && first_.deadline <= now_) late.push_back(&first_);
  for (const auto& [stream, call] : others_) {
    if (call->deadline <= now_) late.push_back(call.get());
  }
  for (Call* call : late) {
    End(call, CallError::kTimeout, VerdictOf(*call),
        call->result.bytes_read > 0
            ? "the answer was not complete at the deadline"
            : "no answer came before the deadline");
  }
  errors_ += static_cast<int>(late.size());
  return static_cast<int>(late.size());
}

// Answers.

void CallTable::OnWireRead(size_t bytes) {
  if (!first_runs()) return;
  const Codec::Traits traits = codec_->traits();
  if (traits.opaque) {
    if (bytes == 0) return;
    probation_->OnServed();
    probation_->OnAnswered();
  } else if (!traits.multiplexed && first_.result.bytes_written > 0) {
    probation_->OnServed();
    first_.result.bytes_read += bytes;
    if (first_.first_byte == Instant{}) first_.first_byte = now_;
  }
}

void CallTable::OnHead(StreamId stream, int status,
                       std::vector<Header> headers) {
  Call* const call = Find(stream);
  if (call == nullptr) return;
  if (codec_->traits().multiplexed) {
    probation_->OnServed();
    call->first_byte = now_;
    call->result.bytes_read += BytesOf(headers);
  } else {
    NoteKeepAlive(headers);
  }
  if (call->streamed != nullptr) {
    StreamNews* const news = NewsOf(call);
    news->status = status;
    news->headers = std::move(headers);
    if (call->room != nullptr &&
        call->room->Grow(stream, 0, Codec::kFullWindow)) {
      codec_->Widen(stream, Codec::kFullWindow);
    }
    return;
  }
  Response& response = call->result.response;
  response.status = status;
  response.headers = std::move(headers);
}

void CallTable::NoteKeepAlive(const std::vector<Header>& headers) {
  for (const Header& header : headers) {
    if (header.name != "keep-alive") continue;
    const Duration said = KeepAliveTimeout(header.value);
    if (said <= Duration(0) || said == keep_alive_) return;
    keep_alive_ = said;
    keep_alive_is_new_ = true;
    return;
  }
}

void CallTable::OnBody(StreamId stream, std::string_view piece) {
  Call* const call = Find(stream);
  if (call == nullptr) return;
  const Codec::Traits traits = codec_->traits();
  // Elsewhere OnWireRead has counted it.
  if (traits.multiplexed || traits.opaque) {
    call->result.bytes_read += piece.size();
  }
  if (call->streamed != nullptr) {
    NewsOf(call)->body.append(piece);
  } else {
    TakeBody(call, piece);
  }
}

void CallTable::TakeBody(Call* call, std::string_view piece) {
  Response& response = call->result.response;
  std::string& body = response.body;
  const size_t limit = LimitOf(*call);
  if (body.empty()) {
    body.reserve(
        std::min({AnnouncedLength(response.headers), limit, kMostReserved}));
  }
  const size_t room = limit - body.size();
  body.append(piece.substr(0, room));
  if (piece.size() <= room) return Meter(call, piece.size());
  if (call->truncate) {
    response.truncated = true;
    codec_->Cancel(call->stream);
    Finish(call);
  } else {
    End(call, CallError::kResponseTooLarge, VerdictOf(*call),
        "the answer's body is longer than " +
            std::to_string(call->max_response_bytes) + " bytes");
  }
}

void CallTable::Meter(Call* call, size_t piece) {
  if (call->room == nullptr) return;
  call->held_back += piece;
  if (call->starved) return;
  const size_t have = call->result.response.body.size();
  const size_t announced = AnnouncedLength(call->result.response.headers);
  // No more can come than that.
  const size_t most =
      announced > 0 ? std::min(LimitOf(*call), announced) : LimitOf(*call);
  if (std::min(have + call->window, most) <= call->granted) {
    return codec_->Consume(call->stream, std::exchange(call->held_back, 0));
  }
  call->wanted = announced > 0 ? most : std::min(most, 2 * have + call->window);
  call->starved = !call->room->Grow(call->stream, have, call->wanted);
  if (!call->starved) Grant(call);
}

void CallTable::Grant(Call* call) {
  const size_t have = call->result.response.body.size();
  call->starved = false;
  call->granted = call->wanted;
  const size_t window = call->granted > have
                            ? std::min(Codec::kFullWindow, call->granted - have)
                            : 0;
  if (window > call->window) {
    call->window = window;
    codec_->Widen(call->stream, window);
  }
  codec_->Consume(call->stream, std::exchange(call->held_back, 0));
}

void CallTable::OnTrailers(StreamId stream, std::vector<Header> trailers) {
  Call* const call = Find(stream);
  if (call == nullptr) return;
  if (call->streamed != nullptr) {
    NewsOf(call)->trailers = std::move(trailers);
  } else {
    call->result.response.trailers = std::move(trailers);
  }
}

void CallTable::OnComplete(StreamId stream) {
  if (Call* const call = Find(stream)) Finish(call);
}

void CallTable::OnStreamError(StreamId stream, CallError error, Verdict verdict,
                              std::string message) {
  Call* const call = Find(stream);
  if (call == nullptr) return;
  call->result.error = error;
  call->result.verdict = verdict;
  call->result.message = std::move(message);
  // A refusal says nothing against the connection.
  if (verdict != Verdict::kRefusedByPeer) ++errors_;
  Finish(call);
}

void CallTable::OnSendable(StreamId stream) {
  if (stream == sending_) {
    sending_ = 0;  // TakeHeld reports it.
  } else if (Call* const call = Find(stream)) {
    NewsOf(call)->sendable = true;
  }
}

// News.

StreamNews* CallTable::NewsOf(Call* call) {
  if (call->news == nullptr) {
    auto news = std::make_unique<StreamNews>();
    news->handler = call->streamed;
    news->stream = call->stream;
    call->news = news.get();
    stream_news_.push_back(std::move(news));
  }
  return call->news;
}

CallNews CallTable::TakeNews() {
  CallNews news;
  for (const auto& stream : stream_news_) {
    // One that has ended gets OnDone after this, and nothing else.
    if (Call* const call = Find(stream->stream)) call->news = nullptr;
  }
  news.streams = std::exchange(stream_news_, {});
  news.others = std::exchange(ended_, {});
  if (first_.ended) {
    news.first = {first_.handler, std::move(first_.result)};
    first_ = Call();
  }
  if (!busy() && others_.capacity() > 0) others_ = {};
  return news;
}

}  // namespace hotline::upstream
