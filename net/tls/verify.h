// Whether a server's certificate is acceptable. Part of tls.
#ifndef HOTLINE_NET_TLS_VERIFY_H_
#define HOTLINE_NET_TLS_VERIFY_H_

#include <openssl/ssl.h>

#include <cstdint>
#include <string>

#include "net/tls/context.h"

namespace hotline::net {

struct Verification {
  bool accepted = false;
  uint8_t alert = SSL_AD_INTERNAL_ERROR;  // Of what was not.
  std::string error = "out of memory";
  int64_t not_after = 0;  // Of what was; in seconds since 1970.
};

// Chain, dates, purpose, and `name` (a host's, or the text of an IP address),
// then the strength of the chain below its authority, then the pins.
Verification Verify(const Context& context, const SSL* ssl,
                    const std::string& name);

bool IsIpAddress(const std::string& name);

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_VERIFY_H_
