// One request and its answer on an HTTP/2 connection.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP2_STREAM_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP2_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "upstream/codec/codec.h"
#include "upstream/codec/http2_answer.h"

namespace hotline::upstream {

// A body on its way out: bytes of the caller's, for as long as they live, and a
// copy of those that had to wait.
class Http2Body {
 public:
  // The bytes of `view` come after all others, and no others until Keep.
  void Lend(std::string_view view) { view_ = view; }
  // Copies what is left of the bytes lent.
  void Keep() {
    if (view_.empty()) return;
    if (used_ > 0) {
      kept_.erase(0, used_);
      used_ = 0;
    }
    kept_.append(view_);
    view_ = {};
  }

  size_t size() const { return kept_.size() - used_ + view_.size(); }

  // Moves the first `size` bytes to the end of `out`.
  void Take(size_t size, std::string* out) {
    const size_t old = std::min(size, kept_.size() - used_);
    out->append(kept_, used_, old);
    used_ += old;
    if (used_ == kept_.size()) {
      std::string().swap(kept_);
      used_ = 0;
    }
    out->append(view_.substr(0, size - old));
    view_.remove_prefix(size - old);
  }

 private:
  std::string kept_;
  size_t used_ = 0;  // Of kept_.
  std::string_view view_;
};

struct Http2Stream {
  explicit Http2Stream(bool to_head) : answer(to_head) {}

  StreamId id = 0;
  size_t index = 0;      // In the codec's list.
  bool metered = false;  // What OnBody gives waits for Consume.
  // Its window is Widen's affair, or is wide already.
  bool keeps_window = false;

  // The request. Places are counted in bytes of the whole output.
  uint64_t begin = 0;  // The first byte's.
  uint64_t end = 0;    // The one after the last; 0: not in the output yet.
  bool head_sent = false;
  bool body_ended = false;     // `body` is all that remains.
  bool owes_sendable = false;  // Send said more than 0.
  Http2Body body;

  // The answer.
  bool answered = false;    // A part of a head has come.
  bool head_given = false;  // To the events.
  Http2Answer answer;
  int64_t header_bytes = 0;  // Of all heads so far, or of the trailers.
  int header_count = 0;      // Of the block that is being received.
  std::vector<Header> headers;
  size_t unconsumed = 0;  // Of the body, when metered.
  size_t received = 0;    // Of the body.

  Verdict VerdictAt(uint64_t written) const {
    if (answered) return Verdict::kResponseStarted;
    if (written <= begin) return Verdict::kNotSent;
    return end == 0 || written < end ? Verdict::kPartial
                                     : Verdict::kSentUnknown;
  }
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP2_STREAM_H_
