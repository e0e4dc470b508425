// Passes ciphertext to and from the library without a copy. Private to net/tls.
#ifndef HOTLINE_NET_TLS_WIRE_BIO_H_
#define HOTLINE_NET_TLS_WIRE_BIO_H_

#include <openssl/ssl.h>

#include <string>
#include <string_view>

namespace hotline::net {

// The input and output of one SSL object, which must not outlive it.
struct WireBio {
  std::string_view input;         // Shrinks as it is read.
  std::string* output = nullptr;  // Appended to.

  // Makes `ssl` use this. False: out of memory.
  bool AttachTo(SSL* ssl);
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_WIRE_BIO_H_
