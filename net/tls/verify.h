// Verifies the peer's certificate chain. Private to net/tls.
#ifndef HOTLINE_NET_TLS_VERIFY_H_
#define HOTLINE_NET_TLS_VERIFY_H_

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdint>
#include <string>

#include "net/tls/context.h"

namespace hotline::net {

struct Verification {
  bool accepted = false;
  uint8_t alert = SSL_AD_INTERNAL_ERROR;  // If not accepted.
  std::string error = "out of memory";
  int code = X509_V_OK;   // X509_V_ERR_…, if that is the reason.
  int depth = 0;          // Of the certificate at fault; 0: the peer's own.
  int64_t not_after = 0;  // If accepted; in seconds since 1970.
  bssl::UniquePtr<X509> leaf;  // The peer's own; null if it does not parse.
};

// A server's: chain, dates, purpose, and `name` (a host's, or the text of an IP
// address), then the strength of the chain below its authority, then the pins.
Verification Verify(const Context& context, const SSL* ssl,
                    const std::string& name);

// A client's: chain up to any of `authorities` (a root or not), dates, purpose,
// then the strength of the chain below its authority.
Verification VerifyClient(X509_STORE* authorities, const SSL* ssl);

// In seconds since 1970.
int64_t SecondsOf(const ASN1_TIME* time);

bool IsIpAddress(const std::string& name);

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_VERIFY_H_
