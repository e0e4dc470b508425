#include "net/http2/request_head.h"

#include <nghttp2/nghttp2.h>

#include <charconv>
#include <cstring>
#include <utility>

namespace hotline::net {
namespace {

constexpr size_t kPerField = 32;

const uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

bool IsAlpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool IsScheme(std::string_view text) {
  if (text.empty() || !IsAlpha(text[0])) return false;
  for (char c : text) {
    const bool fine = IsAlpha(c) || (c >= '0' && c <= '9') || c == '+' ||
                      c == '-' || c == '.';
    if (!fine) return false;
  }
  return true;
}

// Fields that belong to one connection have no place in HTTP/2.
bool IsConnectionField(std::string_view name) {
  switch (name.size()) {
    case 7:
      return name == "upgrade";
    case 10:
      return name == "connection" || name == "keep-alive";
    case 16:
      return name == "proxy-connection";
    case 17:
      return name == "transfer-encoding";
    default:
      return false;
  }
}

bool IsTrailers(std::string_view value) {
  constexpr std::string_view kTrailers = "trailers";
  if (value.size() != kTrailers.size()) return false;
  for (size_t i = 0; i < value.size(); ++i) {
    if ((value[i] | 0x20) != kTrailers[i]) return false;
  }
  return true;
}

}  // namespace

void RequestHeadReader::Begin(const Limits& limits, bool trailers) {
  limits_ = limits;
  trailers_ = trailers;
  seen_ = 0;
  bytes_ = 0;
  used_ = 0;
  fields_.clear();
  host_ = {};
  head_ = {};
  if (capacity_ < limits.max_bytes) {
    text_.reset(new char[limits.max_bytes]);
    capacity_ = limits.max_bytes;
  }
}

RequestHeadReader::Result RequestHeadReader::Add(std::string_view name,
                                                 std::string_view value) {
  bytes_ += name.size() + value.size() + kPerField;
  if (bytes_ > limits_.flood_bytes) return Result::kFlood;
  if (bytes_ > limits_.max_bytes) head_.too_large = true;
  if (head_.too_large) return Result::kOk;
  const bool pseudo = !name.empty() && name[0] == ':';
  const bool fine = pseudo ? AddPseudo(name, value) : AddRegular(name, value);
  return fine ? Result::kOk : Result::kMalformed;
}

bool RequestHeadReader::See(Seen what) {
  return (std::exchange(seen_, seen_ | what) & what) == 0;
}

std::string_view RequestHeadReader::Store(std::string_view text) {
  if (text.empty()) return {};
  char* const place = text_.get() + used_;
  std::memcpy(place, text.data(), text.size());
  used_ += text.size();
  return {place, text.size()};
}

bool RequestHeadReader::AddPseudo(std::string_view name,
                                  std::string_view value) {
  if (trailers_ || (seen_ & kRegular) != 0) return false;
  if (name == ":method") {
    if (nghttp2_check_method(Bytes(value), value.size()) == 0) return false;
    head_.method = Store(value);
    return See(kMethod);
  }
  if (name == ":path") {
    if (nghttp2_check_path(Bytes(value), value.size()) == 0) return false;
    head_.path = Store(value);
    return See(kPath);
  }
  if (name == ":scheme") {
    head_.scheme = Store(value);
    return See(kScheme) && IsScheme(value);
  }
  if (name == ":authority") {
    if (nghttp2_check_authority(Bytes(value), value.size()) == 0) return false;
    head_.authority = Store(value);
    return See(kAuthority);
  }
  return false;
}

bool RequestHeadReader::AddRegular(std::string_view name,
                                   std::string_view value) {
  seen_ |= kRegular;
  if (nghttp2_check_header_name(Bytes(name), name.size()) == 0 ||
      nghttp2_check_header_value_rfc9113(Bytes(value), value.size()) == 0 ||
      IsConnectionField(name)) {
    return false;
  }
  const HeaderField field{Store(name), Store(value)};
  fields_.push_back(field);
  if (name == "te") return IsTrailers(value);
  if (trailers_) return true;
  if (name == "content-length") return TakeLength(value);
  if (name == "host") {
    host_ = field.value;
    return See(kHost);
  }
  return true;
}

bool RequestHeadReader::TakeLength(std::string_view digits) {
  int64_t length = 0;
  const char* const end = digits.data() + digits.size();
  const auto read = std::from_chars(digits.data(), end, length);
  if (head_.content_length >= 0 || digits.empty() || digits[0] == '-' ||
      read.ec != std::errc() || read.ptr != end) {
    return false;
  }
  head_.content_length = length;
  return true;
}

bool RequestHeadReader::Finish(bool last) {
  head_.fields = fields_;
  if (trailers_) return last;
  if (head_.too_large) return true;
  if ((seen_ & kHost) != 0) {
    if ((seen_ & kAuthority) == 0) {
      head_.authority = host_;
    } else if (head_.authority != host_) {
      return false;
    }
  }
  if (last && head_.content_length > 0) return false;
  constexpr uint8_t kPseudo = kMethod | kScheme | kPath;
  if (head_.method == "CONNECT") {
    return (seen_ & (kPseudo | kAuthority)) == (kMethod | kAuthority);
  }
  if ((seen_ & kPseudo) != kPseudo || head_.path.empty()) return false;
  return head_.path[0] == '/' ||
         (head_.path == "*" && head_.method == "OPTIONS");
}

}  // namespace hotline::net
