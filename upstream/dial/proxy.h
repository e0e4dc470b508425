// The way through an HTTP proxy: CONNECT (RFC 9110, 9.3.6). Bytes in, bytes
// out; no socket.
#ifndef HOTLINE_UPSTREAM_DIAL_PROXY_H_
#define HOTLINE_UPSTREAM_DIAL_PROXY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline::upstream {

// Where a proxy listens: "http://host:port", nothing after it. What goes
// through it is as safe as ever: TLS is with the target, inside the tunnel.
struct ProxyAddress {
  std::string host;  // Without brackets; as it is to be looked up.
  uint16_t port = 0;

  static std::optional<ProxyAddress> Parse(std::string_view text);
};

// What asks for a tunnel to `authority` ("example.com:443").
std::string ConnectRequest(std::string_view authority);

// Reads what the proxy says to it.
class ProxyAnswer {
 public:
  static constexpr size_t kMostBytes = 16 << 10;  // Of all heads together.

  enum class Verdict {
    kMore,     // Not all of it is there.
    kOpen,     // The tunnel stands; rest() and what follows are the target's.
    kRefused,  // status() says how.
    kBroken,   // No HTTP, or more than kMostBytes before the tunnel stood.
  };
  Verdict Feed(std::string_view bytes);

  int status() const { return status_; }
  // After kOpen: what came behind the answer. The target has sent it.
  std::string_view rest() const {
    return std::string_view(text_).substr(read_);
  }

 private:
  std::string text_;
  size_t read_ = 0;  // Of it: heads that are done with.
  int status_ = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_PROXY_H_
