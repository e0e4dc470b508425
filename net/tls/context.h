// A TLS profile as an SSL_CTX. Private to net/tls.
#ifndef HOTLINE_NET_TLS_CONTEXT_H_
#define HOTLINE_NET_TLS_CONTEXT_H_

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/tls/sessions.h"
#include "net/tls/tls.h"

namespace hotline::net {

class Authorities final : public TlsAuthorities {
 public:
  Authorities() : store_(X509_STORE_new()) {}
  bool Read(const std::string& ca_file, std::string* error);
  X509_STORE* store() const { return store_.get(); }

 private:
  const bssl::UniquePtr<X509_STORE> store_;
};

// SHA-256 of a SubjectPublicKeyInfo.
using Pin = std::array<uint8_t, 32>;

class Context final : public TlsContext {
 public:
  Context(TlsProfile profile, std::shared_ptr<const Authorities> authorities,
          std::shared_ptr<Sessions> sessions);
  ~Context() override;

  // False: see `faults`.
  bool Init(uint32_t session_seconds, std::vector<TlsFault>* faults);

  const TlsProfile& profile() const override { return profile_; }
  SSL_CTX* ctx() const { return ctx_.get(); }
  X509_STORE* store() const { return authorities_->store(); }
  const std::vector<Pin>& pins() const { return pins_; }
  bool ech_grease() const { return ech_grease_; }
  // Null: no session is resumed.
  Sessions* sessions() const {
    return profile_.session_tickets ? sessions_.get() : nullptr;
  }
  // Unique in the process, never reused.
  const std::string& session_prefix() const { return session_prefix_; }

 private:
  using Faults = std::vector<TlsFault>;
  void SetVersions(Faults* faults);
  void SetCiphers(Faults* faults);
  void SetGroups(Faults* faults);
  void SetSignatureAlgorithms(Faults* faults);
  void SetExtensions(Faults* faults);
  void SetCompression(Faults* faults);
  void SetResumption(uint32_t session_seconds);
  void SetClientCertificate(Faults* faults);
  void SetPins(Faults* faults);

  const TlsProfile profile_;
  const std::shared_ptr<const Authorities> authorities_;
  const std::shared_ptr<Sessions> sessions_;
  const std::string session_prefix_;
  bssl::UniquePtr<SSL_CTX> ctx_;
  std::vector<Pin> pins_;
  bool ech_grease_ = false;
};

// Returns the oldest error in the library's queue, which is the cause, and
// clears the queue. 0: none.
uint32_t TakeLibraryErrorCode();
std::string LibraryErrorText(uint32_t code);

// Deduplicates certificates over all contexts: connections to one peer receive
// the same chain.
CRYPTO_BUFFER_POOL* CertificatePool();

// False: the key does not match the first certificate; the library's error
// queue has the reason.
bool SetChainAndKey(SSL_CTX* ctx,
                    const std::vector<bssl::UniquePtr<CRYPTO_BUFFER>>& chain,
                    EVP_PKEY* key);

// Registers a decompressor for certificates. False: `name` is unknown.
bool AddCertificateCompression(SSL_CTX* ctx, const std::string& name);

// Callbacks of the library, implemented by the engine.
ssl_verify_result_t VerifyPeer(SSL* ssl, uint8_t* out_alert);
int KeepSession(SSL* ssl, SSL_SESSION* session);

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_CONTEXT_H_
