// The names in a certificate. Private to net/tls.
#ifndef HOTLINE_NET_TLS_PEER_NAMES_H_
#define HOTLINE_NET_TLS_PEER_NAMES_H_

#include <openssl/x509.h>

#include "net/tls/server.h"

namespace hotline::net {

// False: the alternative names do not parse.
bool ReadPeerNames(X509* certificate, TlsPeerNames* names);

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_PEER_NAMES_H_
