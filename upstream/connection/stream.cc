// Streamed calls: bodies piece by piece, at the slower end's pace.
#include <utility>

#include "upstream/connection/connection.h"

namespace hotline::upstream {

size_t Connection::SendBody(CallId id, std::string_view piece, bool end) {
  Rest rest;
  size_t held = 0;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return 0;
    Call* const call = FindLocked(static_cast<StreamId>(id));
    if (call == nullptr || call->streamed == nullptr) return 0;
    call->request_bytes += piece.size();
    sending_ = call->stream;
    held = codec_->Send(call->stream, piece, end);
    rest = TryFlushLocked();
    // Its place is empty if that made room again.
    if (std::exchange(sending_, 0) == 0) held = 0;
  }
  LeaveToLoop(rest);
  return held;
}

void Connection::Consume(CallId id, size_t bytes) {
  Rest rest;
  bool resume = false;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    const Call* const call = FindLocked(static_cast<StreamId>(id));
    if (call == nullptr || call->streamed == nullptr) return;
    codec_->Consume(call->stream, bytes);
    if (codec_->WantsWrite()) rest = TryFlushLocked();
    resume = read_paused_ && WantsReadLocked();
    if (resume) read_paused_ = false;
  }
  LeaveToLoop(rest);
  if (resume) loop_->Post([self = shared_from_this()] { self->UpdateWatch(); });
}

void Connection::TellOpened() {
  now_ = MonotonicNow();
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    TakePlainLocked({});
    read_paused_ = !WantsReadLocked();
  }
  Settle();
  UpdateWatch();
}

void Connection::OnSendable(StreamId stream) {
  if (stream == sending_) {
    sending_ = 0;  // SendBody says so itself.
    return;
  }
  Call* const call = FindLocked(stream);
  if (call != nullptr) NewsOfLocked(call)->sendable = true;
}

Connection::StreamNews* Connection::NewsOfLocked(Call* call) {
  if (call->news == nullptr) {
    auto news = std::make_unique<StreamNews>();
    news->handler = call->streamed;
    news->stream = call->stream;
    call->news = news.get();
    stream_news_.push_back(std::move(news));
  }
  return call->news;
}

std::vector<std::unique_ptr<Connection::StreamNews>>
Connection::TakeStreamNewsLocked() {
  for (const auto& news : stream_news_) {
    // One that has ended gets no more news but that.
    if (Call* const call = FindLocked(news->stream)) call->news = nullptr;
  }
  return std::exchange(stream_news_, {});
}

void Connection::TellStreams(News* news) {
  for (const auto& stream : news->streams) {
    StreamHandler* const handler = stream->handler;
    if (stream->status != 0) {
      handler->OnHead(stream->status, std::move(stream->headers));
    }
    if (!stream->body.empty()) handler->OnBody(std::move(stream->body));
    if (stream->trailers) handler->OnTrailers(*std::move(stream->trailers));
    if (stream->sendable) handler->OnSendable();
  }
}

}  // namespace hotline::upstream
