// Whether a header field may stand in an HTTP/2 message.
#ifndef HOTLINE_NET_HTTP2_FIELD_CHECK_H_
#define HOTLINE_NET_HTTP2_FIELD_CHECK_H_

#include <string_view>

namespace hotline::net {

// Whether the name (lower case; a pseudo-header's too) and the value are well
// formed, and the field does not belong to a connection: Connection,
// Keep-Alive, Proxy-Connection, Transfer-Encoding, Upgrade, and TE other than
// "trailers" (RFC 9113, 8.2). Which pseudo-headers there may be, and what a
// value means, is for the message's role to check.
bool IsHttp2Field(std::string_view name, std::string_view value);

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_FIELD_CHECK_H_
