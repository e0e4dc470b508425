// Whether the parts of an answer are a message (RFC 9113, 8.1 to 8.3).
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP2_ANSWER_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP2_ANSWER_H_

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "net/http2/field_check.h"

namespace hotline::upstream {

// Replaces nghttp2's own check, which refuses answers that are allowed: with a
// status that has no content, Content-Length says nothing about framing.
//
// Each function takes the next part and returns what is wrong with it, or null.
// After a fault there must be no further call.
class Http2Answer {
 public:
  // `to_head`: the request's method is HEAD.
  explicit Http2Answer(bool to_head) : no_content_(to_head) {}

  // A field of a head or of the trailers.
  const char* OnField(std::string_view name, std::string_view value) {
    if (!net::IsHttp2Field(name, value)) return kBadField;
    if (name[0] == ':') return TakeStatus(name, value);
    regular_seen_ = true;
    return name == "content-length" ? TakeLength(value) : nullptr;
  }

  // The fields since the last time are a head, interim or final, or the
  // trailers. `last`: nothing follows.
  const char* OnFieldsEnd(bool last) {
    regular_seen_ = false;
    if (final_) return last ? OnEnd() : kMisfit;
    status_ = std::exchange(status_read_, 0);
    if (status_ == 0) return kMisfit;
    if (status_ < 200) {
      length_.reset();
      return last ? kMisfit : nullptr;
    }
    final_ = true;
    no_content_ = no_content_ || status_ == 204 || status_ == 304;
    return last ? OnEnd() : nullptr;
  }

  // The next bytes of the body, without padding.
  const char* OnData(size_t bytes) {
    if (!final_ || no_content_) return kMisfit;
    received_ += bytes;
    return length_.has_value() && received_ > *length_ ? kMisfit : nullptr;
  }

  // The answer's end.
  const char* OnEnd() const {
    if (!final_) return kMisfit;
    if (no_content_ || !length_.has_value()) return nullptr;
    // A 205 has no content either; one that does have it is accepted.
    if (status_ == 205 && received_ == 0) return nullptr;
    return received_ == *length_ ? nullptr : kMisfit;
  }

  // Of the last complete head.
  int status() const { return status_; }

 private:
  static constexpr const char* kBadField = "a malformed header";
  static constexpr const char* kMisfit = "its parts do not fit together";

  static bool Parse(std::string_view digits, uint64_t* number) {
    const char* const end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, *number);
    return read.ec == std::errc() && read.ptr == end;
  }

  const char* TakeStatus(std::string_view name, std::string_view value) {
    uint64_t status = 0;
    // 101 exists in HTTP/1.1 only.
    if (name != ":status" || final_ || regular_seen_ || status_read_ != 0 ||
        value.size() != 3 || !Parse(value, &status) || status == 101) {
      return kBadField;
    }
    if (status < 100) return "status out of range";
    status_read_ = static_cast<int>(status);
    return nullptr;
  }

  const char* TakeLength(std::string_view value) {
    uint64_t length = 0;
    if (length_.has_value() || !Parse(value, &length)) return kBadField;
    length_ = length;
    return nullptr;
  }

  bool no_content_;
  bool final_ = false;         // The final head is complete.
  bool regular_seen_ = false;  // In this block; no pseudo-header may follow.
  int status_read_ = 0;        // In this block.
  int status_ = 0;
  std::optional<uint64_t> length_;  // As the final head says.
  uint64_t received_ = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP2_ANSWER_H_
