// Small functions on the text of HTTP messages.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP_TEXT_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP_TEXT_H_

#include <algorithm>
#include <charconv>
#include <chrono>
#include <string_view>

#include "base/http_chars.h"
#include "base/text.h"
#include "base/time.h"

namespace hotline::upstream {

// Whether a request has a Content-Length even without a body.
inline bool MeantToHaveBody(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

// The "timeout=N" of a Keep-Alive header's value, at most a day. Zero: it has
// no valid one.
inline Duration KeepAliveTimeout(std::string_view value) {
  constexpr std::string_view kName = "timeout=";
  while (!value.empty()) {
    const size_t end = std::min(value.find(','), value.size());
    std::string_view part = Trimmed(value.substr(0, end));
    value.remove_prefix(std::min(end + 1, value.size()));
    if (!EqualsIgnoringCase(part.substr(0, kName.size()), kName)) continue;
    part.remove_prefix(kName.size());
    int64_t seconds = 0;
    const char* const last = part.data() + part.size();
    const auto read = std::from_chars(part.data(), last, seconds);
    if (read.ec != std::errc() || read.ptr != last || seconds < 0) break;
    return std::chrono::seconds(std::min<int64_t>(seconds, 24 * 60 * 60));
  }
  return Duration(0);
}

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP_TEXT_H_
