// A server's certificates as an SSL_CTX. Private to net/tls.
#ifndef HOTLINE_NET_TLS_SERVER_CONTEXT_H_
#define HOTLINE_NET_TLS_SERVER_CONTEXT_H_

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdint>
#include <string>
#include <vector>

#include "net/tls/server.h"

namespace hotline::net {

class ServerContext final : public TlsServerContext {
 public:
  // False: see `faults`.
  bool Init(const TlsServerPems& pems, std::vector<TlsFault>* faults);

  int64_t not_before() const override { return not_before_; }
  int64_t not_after() const override { return not_after_; }
  SSL_CTX* ctx() const { return ctx_.get(); }
  X509_STORE* client_ca() const { return client_ca_.get(); }

 private:
  using Faults = std::vector<TlsFault>;
  bool SetProtocol();
  void SetKeyPair(const TlsServerPems& pems, Faults* faults);
  void SetClientCa(const std::string& text, Faults* faults);

  bssl::UniquePtr<SSL_CTX> ctx_;
  bssl::UniquePtr<X509_STORE> client_ca_;
  int64_t not_before_ = 0;
  int64_t not_after_ = 0;
};

// Callbacks of the library, implemented by the engine.
ssl_verify_result_t VerifyCaller(SSL* ssl, uint8_t* out_alert);

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_SERVER_CONTEXT_H_
