// Writes requests in HTTP/1.1. The caller has validated every part; blanks
// around a header's value are left out.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP1_REQUEST_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP1_REQUEST_H_

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "upstream/codec/http_text.h"
#include "upstream/types.h"

namespace hotline::upstream {

inline void AppendContentLength(uint64_t length, std::string* out) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof(digits), length);
  out->append("Content-Length: ").append(digits, end.ptr - digits);
  out->append("\r\n");
}

// Everything of a request's head but the line that says how long the body is,
// and the empty line. Makes room for the body, too.
inline void AppendRequestHead(const Request& request, std::string* out) {
  size_t size = request.method.size() + request.path.size() +
                request.authority.size() + request.body.size() +
                request.upgrade.size() + 120;
  for (const HeaderView& header : request.headers) {
    size += header.name.size() + header.value.size() + 4;
  }
  out->reserve(out->size() + size);
  out->append(request.method).append(" ").append(request.path);
  out->append(" HTTP/1.1\r\nHost: ").append(request.authority);
  out->append("\r\n");
  for (const HeaderView& header : request.headers) {
    // Allowed when it says what the authority says: that is written already.
    if (EqualsIgnoringCase(header.name, "host")) continue;
    out->append(header.name).append(": ").append(Trimmed(header.value));
    out->append("\r\n");
  }
  if (request.upgrade.empty()) return;
  out->append("Connection: Upgrade\r\nUpgrade: ");
  out->append(request.upgrade).append("\r\n");
}

inline void AppendChunk(std::string_view piece, std::string* out) {
  if (piece.empty()) return;  // It would be the last one.
  char digits[16];
  const auto end =
      std::to_chars(digits, digits + sizeof(digits), piece.size(), 16);
  out->append(digits, end.ptr - digits).append("\r\n");
  out->append(piece).append("\r\n");
}

// What the caller's own Content-Length says; nothing when there is none.
inline std::optional<uint64_t> LengthAmong(const Request& request) {
  std::optional<uint64_t> length;
  for (const HeaderView& header : request.headers) {
    if (!EqualsIgnoringCase(header.name, "content-length")) continue;
    const std::string_view value = Trimmed(header.value);
    length = 0;
    std::from_chars(value.data(), value.data() + value.size(), *length);
  }
  return length;
}

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP1_REQUEST_H_
