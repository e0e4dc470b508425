// HTTP/2 frames as text, for tables of cases in files next to their tests.
#ifndef HOTLINE_TESTS_NET_HTTP2_FRAME_TEXT_H_
#define HOTLINE_TESTS_NET_HTTP2_FRAME_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tests/net/http2/raw_frames.h"

namespace hotline::net {

// The bytes of frames such as
//
//   HEADERS(1 end_headers [POST; te=trailers]) DATA(1 end_stream "hello\n")
//
// Each frame is TYPE(STREAM FLAGS... PARTS...). A type is a name of RFC 9113 or
// a number (0xfe); a flag is ack, end_stream, end_headers, padded or priority,
// or flags=0xff for all eight bits. The payload is what the parts make, in
// their order:
//
//   "a\000"    text with C escapes
//   [a=b; c=]  a block of header fields, see ParseFields
//   2147483647 a number of four bytes: a stream, an increment
//   CANCEL     an error code
//   4=65535    an entry of SETTINGS: a number of two bytes and one of four
//
// Nothing is implied: neither END_HEADERS nor padding. Text outside of frames
// stands for itself. Anything else fails the test.
std::string ParseFrames(std::string_view text);

// Header fields: "POST; a=b". Names and values have C escapes; POST stands for
// the pseudo-header fields of a valid request (PostFields), and three digits
// for a :status. A field of another form fails the test.
FieldList ParseFields(std::string_view text);

// The error code of a name of RFC 9113: PROTOCOL_ERROR.
std::optional<uint32_t> ErrorCode(std::string_view name);

}  // namespace hotline::net

#endif  // HOTLINE_TESTS_NET_HTTP2_FRAME_TEXT_H_
