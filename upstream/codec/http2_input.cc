// What the peer sends, before nghttp2 sees it.
#include <algorithm>
#include <utility>

#include "upstream/codec/http2_codec.h"

namespace hotline::upstream {
namespace {

constexpr std::string_view kHttp1 = "HTTP/1.";

}  // namespace

bool Http2Codec::Feed(std::string_view bytes) {
  if (closed_) return false;
  feeding_ = true;
  if (!ready_ && first_bytes_.size() < kHttp1.size()) {
    first_bytes_.append(bytes.substr(0, kHttp1.size() - first_bytes_.size()));
  }
  StreamId culprit = 0;
  while (!bytes.empty() && problem_.empty()) {
    const size_t held = frames_.pending_head();
    const size_t size = Measure(bytes);
    Receive(held, bytes.substr(0, size));
    // Resets are told as they go out; and if nghttp2 has given the connection
    // up, it says so only by the GOAWAY that it sends.
    Pump();
    if (frames_.at_end() && problem_.empty()) BreakFlood(account_.Check());
    bytes.remove_prefix(size);
    culprit = frames_.head().stream;
  }
  feeding_ = false;
  if (!problem_.empty()) {
    const bool http1 = !ready_ && first_bytes_ == kHttp1;
    // A flood answers the only request there is, whatever it consists of.
    if (problem_code_ == NGHTTP2_ENHANCE_YOUR_CALM && streams_.size() == 1) {
      culprit = streams_.front()->id;
    }
    Close("the upstream does not speak proper HTTP/2: " +
              (http1 ? "it answers in HTTP/1" : problem_),
          culprit);
    return false;
  }
  ReportSendable();
  return true;
}

void Http2Codec::Receive(size_t held, std::string_view bytes) {
  // It gets headers whole, so that a frame may still be kept from it.
  if (!problem_.empty() || skipping_ || frames_.pending_head() > 0) return;
  const auto give = [this](std::string_view part) {
    const ssize_t used = nghttp2_session_mem_recv(
        session_, reinterpret_cast<const uint8_t*>(part.data()), part.size());
    if (used >= 0 || !problem_.empty()) return;
    Break(used == NGHTTP2_ERR_FLOODED
              ? "too many frames that ask for an answer"
              : nghttp2_strerror(static_cast<int>(used)),
          NGHTTP2_ENHANCE_YOUR_CALM);
  };
  if (held > 0) {
    const std::string_view head = frames_.raw_head();
    give(head);
    bytes.remove_prefix(head.size() - held);
  }
  if (!bytes.empty() && problem_.empty()) give(bytes);
}

size_t Http2Codec::Measure(std::string_view bytes) {
  size_t size = 0;
  do {
    bool begun = false;
    size += frames_.Next(bytes.substr(size), &begun);
    if (begun) OnFrameBegun(frames_.head());
  } while (size < bytes.size() && !frames_.at_end());
  const net::FrameHead& head = frames_.head();
  if (frames_.at_end() && head.type == NGHTTP2_WINDOW_UPDATE &&
      head.length == sizeof(uint32_t)) {
    OnWindowUpdate(head.stream, frames_.number());
  }
  return size;
}

// Some mistakes are one stream's to RFC 9113, and the connection's to nghttp2.
// Such a stream is reset before nghttp2 sees the frame.
void Http2Codec::OnFrameBegun(const net::FrameHead& frame) {
  constexpr size_t kMostBytes = 16384;
  constexpr size_t kPriorityBytes = 5;
  Http2Stream* const stream = Find(frame.stream);
  const bool stray = frame.type == NGHTTP2_DATA && stream == nullptr;
  if (!stray || !account_.CoverStray(frame.length)) {
    account_.Charge(1);
    BreakFlood(account_.CountContinuation(frame));
  }
  const bool block =
      frame.type == NGHTTP2_HEADERS || frame.type == NGHTTP2_CONTINUATION;
  in_block_ = std::exchange(
      block_open_, block && (frame.flags & NGHTTP2_FLAG_END_HEADERS) == 0);
  skipping_ = false;
  if (in_block_ || !ready_ || frame.length > kMostBytes) return;
  const bool sent = stream != nullptr && written_ > stream->begin;
  if (stream == nullptr &&
      (frame.type == NGHTTP2_DATA || frame.type == NGHTTP2_HEADERS)) {
    OnStray(static_cast<StreamId>(frame.stream));
  } else if (frame.type == NGHTTP2_DATA && sent && !stream->answered) {
    FailMalformed(stream, "a body before its head");
  } else if (frame.type == NGHTTP2_PRIORITY && frame.stream != 0) {
    skipping_ = true;  // A server's wishes in this are of no use.
    if (sent && frame.length != kPriorityBytes) {
      FailMalformed(stream, "a PRIORITY frame of the wrong size",
                    NGHTTP2_FRAME_SIZE_ERROR);
    }
  }
}

void Http2Codec::OnWindowUpdate(StreamId id, uint32_t increment) {
  if (account_.OnWindowUpdate(static_cast<int32_t>(id), increment)) {
    account_.Earn(1);
  }
  if (increment > 0 || id == 0 || in_block_) return;
  Http2Stream* const stream = Find(id);
  if (stream == nullptr || written_ <= stream->begin) return;
  FailMalformed(stream, "an update of its window by nothing");
  Pump();  // To nghttp2, too, the stream is over now.
}

}  // namespace hotline::upstream
