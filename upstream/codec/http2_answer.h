// Whether the parts of an answer fit together (RFC 9113, 8.1 to 8.3).
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP2_ANSWER_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP2_ANSWER_H_

#include <nghttp2/nghttp2.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "upstream/codec/http_text.h"

namespace hotline::upstream {

// Stands in for nghttp2's own check, which refuses answers that are allowed: a
// Content-Length with a status that has no content says nothing about framing.
//
// Each function is told of the next part and returns what is wrong with it, or
// null. What is malformed stays so: nothing is to be told after that.
class Http2Answer {
 public:
  // `to_head`: to a request with the method HEAD.
  explicit Http2Answer(bool to_head) : no_content_(to_head) {}

  // A field of a head or of the trailers.
  const char* OnField(std::string_view name, std::string_view value) {
    if (nghttp2_check_header_name(Bytes(name), name.size()) == 0 ||
        nghttp2_check_header_value_rfc9113(Bytes(value), value.size()) == 0) {
      return kBadField;
    }
    if (name[0] == ':') return TakeStatus(name, value);
    regular_seen_ = true;
    switch (name.size()) {
      case 2:
        return name == "te" && !EqualsIgnoringCase(value, "trailers")
                   ? kBadField
                   : nullptr;
      case 7:
        return name == "upgrade" ? kBadField : nullptr;
      case 10:
        return name == "connection" || name == "keep-alive" ? kBadField
                                                            : nullptr;
      case 14:
        return name == "content-length" ? TakeLength(value) : nullptr;
      case 16:
        return name == "proxy-connection" ? kBadField : nullptr;
      case 17:
        return name == "transfer-encoding" ? kBadField : nullptr;
      default:
        return nullptr;
    }
  }

  // The fields told so far are a head, interim or final, or the trailers.
  // `last`: nothing follows.
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

  // The next bytes of the body; not of padding.
  const char* OnData(size_t bytes) {
    if (!final_ || no_content_) return kMisfit;
    received_ += bytes;
    return length_.has_value() && received_ > *length_ ? kMisfit : nullptr;
  }

  // The answer's end.
  const char* OnEnd() const {
    if (!final_) return kMisfit;
    if (no_content_ || !length_.has_value()) return nullptr;
    // A 205 has no content either, but one that has it is understood.
    if (status_ == 205 && received_ == 0) return nullptr;
    return received_ == *length_ ? nullptr : kMisfit;
  }

  // Of the last head that was told whole.
  int status() const { return status_; }

 private:
  static constexpr const char* kBadField = "a malformed header";
  static constexpr const char* kMisfit = "its parts do not fit together";

  static const uint8_t* Bytes(std::string_view text) {
    return reinterpret_cast<const uint8_t*>(text.data());
  }

  static bool Parse(std::string_view digits, uint64_t* number) {
    const char* const end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, *number);
    return read.ec == std::errc() && read.ptr == end;
  }

  const char* TakeStatus(std::string_view name, std::string_view value) {
    uint64_t status = 0;
    // 101 is HTTP/1.1's alone.
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
  bool final_ = false;         // The final head is whole.
  bool regular_seen_ = false;  // In this block: no pseudo-header after that.
  int status_read_ = 0;        // In this block.
  int status_ = 0;
  std::optional<uint64_t> length_;  // As the final head says.
  uint64_t received_ = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP2_ANSWER_H_
