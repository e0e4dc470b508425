// Tunnels through an HTTP proxy by CONNECT (RFC 9110, 9.3.6): the request as
// bytes, and a parser of its answer. No socket.
#ifndef HOTLINE_UPSTREAM_DIAL_PROXY_H_
#define HOTLINE_UPSTREAM_DIAL_PROXY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline::upstream {

// A proxy's address: "http://host:port" with nothing after it. The proxy sees
// no plain text of an https target: TLS is negotiated inside the tunnel.
struct ProxyAddress {
  std::string host;  // Without brackets, for resolution.
  uint16_t port = 0;

  static std::optional<ProxyAddress> Parse(std::string_view text);
};

// The request for a tunnel to `authority` ("example.com:443").
std::string ConnectRequest(std::string_view authority);

// Parses the proxy's answer to it.
class ProxyAnswer {
 public:
  static constexpr size_t kMostBytes = 16 << 10;  // Interim answers included.

  enum class Verdict {
    kMore,     // The answer is not complete.
    kOpen,     // The tunnel is open: tunneled() and all later bytes are the
               // target's.
    kRefused,  // With status().
    kBroken,   // Not HTTP, or more than kMostBytes.
  };
  Verdict Feed(std::string_view bytes);

  int status() const { return status_; }
  // After kOpen: the bytes received after the answer, which are the target's.
  std::string_view tunneled() const {
    return std::string_view(text_).substr(read_);
  }

 private:
  std::string text_;
  size_t read_ = 0;  // Bytes of text_ that were parsed.
  int status_ = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_PROXY_H_
