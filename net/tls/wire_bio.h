// Ciphertext in and out of the library, without a copy of its own. Part of tls.
#ifndef HOTLINE_NET_TLS_WIRE_BIO_H_
#define HOTLINE_NET_TLS_WIRE_BIO_H_

#include <openssl/ssl.h>

#include <string>
#include <string_view>

namespace hotline::net {

// What one SSL object reads from and writes to. Must outlive its last use of
// either.
struct WireBio {
  std::string_view input;         // Shrinks as it is read.
  std::string* output = nullptr;  // Appended to.

  // Makes `ssl` use this. False: memory is short.
  bool AttachTo(SSL* ssl);
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_WIRE_BIO_H_
