#include "net/tls/server_context.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/stack.h>

#include <iterator>
#include <utility>

#include "net/tls/context.h"
#include "net/tls/pem_files.h"
#include "net/tls/verify.h"

namespace hotline::net {
namespace {

// Of TLS 1.2. HTTP/2 forbids all that are not ephemeral or not AEAD (RFC 9113,
// appendix A).
constexpr char kSuites[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

// Signature algorithms accepted from callers. The library's default list
// contains SHA-1 and lacks Ed25519 and P-521.
constexpr uint16_t kSignatureAlgorithms[] = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_ECDSA_SECP384R1_SHA384,
    SSL_SIGN_ECDSA_SECP521R1_SHA512, SSL_SIGN_ED25519,
    SSL_SIGN_RSA_PSS_RSAE_SHA256,    SSL_SIGN_RSA_PSS_RSAE_SHA384,
    SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA256,
    SSL_SIGN_RSA_PKCS1_SHA384,       SSL_SIGN_RSA_PKCS1_SHA512};

constexpr uint8_t kH2[] = {2, 'h', '2'};

// Limits the cost of an unverified caller's chain.
constexpr size_t kMostChainBytes = 32 << 10;

// Clients choose among their certificates by the CA names that the server
// sends. A longer list is left out: every handshake would carry it, and the
// message has a size limit.
constexpr size_t kMostNameBytes = 16 << 10;

// Called only for clients that use ALPN.
int SelectH2(SSL*, const uint8_t** out, uint8_t* out_size, const uint8_t* in,
             unsigned in_size, void*) {
  uint8_t* selected = nullptr;
  const int found =
      SSL_select_next_proto(&selected, out_size, kH2, sizeof kH2, in, in_size);
  *out = selected;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK
                                         : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// Null: none.
const char* WeaknessOf(const EVP_PKEY* key) {
  const int bits = EVP_PKEY_bits(key);
  if (EVP_PKEY_id(key) == EVP_PKEY_RSA && bits < 2048) {
    return "has an RSA key shorter than 2048 bits";
  }
  if (EVP_PKEY_id(key) == EVP_PKEY_EC && bits < 256) {
    return "has an EC key shorter than 256 bits";
  }
  return nullptr;
}

}  // namespace

bool ServerContext::Init(const TlsServerPems& pems, Faults* faults) {
  ctx_.reset(SSL_CTX_new(TLS_with_buffers_method()));
  client_ca_.reset(X509_STORE_new());
  if (ctx_ == nullptr || client_ca_ == nullptr || !SetProtocol()) {
    faults->push_back({"", LibraryErrorText(TakeLibraryErrorCode())});
    return false;
  }
  const size_t before = faults->size();
  SetKeyPair(pems, faults);
  SetClientCa(pems.client_ca, faults);
  ERR_clear_error();
  return faults->size() == before;
}

bool ServerContext::SetProtocol() {
  SSL_CTX* const ctx = ctx_.get();
  SSL_CTX_set0_buffer_pool(ctx, CertificatePool());
  SSL_CTX_set_custom_verify(
      ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, VerifyCaller);
  SSL_CTX_set_max_cert_list(ctx, kMostChainBytes);
  // The chain is not needed after the handshake.
  SSL_CTX_set_retain_only_sha256_of_client_certs(ctx, 1);
  SSL_CTX_set_alpn_select_cb(ctx, SelectH2, nullptr);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  SSL_CTX_set_early_data_enabled(ctx, 0);
  return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
         SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) &&
         SSL_CTX_set_strict_cipher_list(ctx, kSuites) &&
         SSL_CTX_set_verify_algorithm_prefs(ctx, kSignatureAlgorithms,
                                            std::size(kSignatureAlgorithms));
}

void ServerContext::SetKeyPair(const TlsServerPems& pems, Faults* faults) {
  std::string error;
  const auto chain = ParseCertificates(pems.certificates, &error);
  if (chain.empty()) faults->push_back({"cert_file", error});
  const auto key = ParsePrivateKey(pems.key, &error);
  if (key == nullptr) faults->push_back({"key_file", error});
  if (chain.empty() || key == nullptr) return;
  if (const char* weakness = WeaknessOf(key.get())) {
    return faults->push_back({"key_file", weakness});
  }
  if (!SetChainAndKey(ctx_.get(), chain, key.get())) {
    return faults->push_back(
        {"key_file", "is not the key of the first certificate in cert_file (" +
                         LibraryErrorText(TakeLibraryErrorCode()) + ")"});
  }
  const bssl::UniquePtr<X509> ours(X509_parse_from_buffer(chain[0].get()));
  if (ours == nullptr) return faults->push_back({"cert_file", "out of memory"});
  not_before_ = SecondsOf(X509_get0_notBefore(ours.get()));
  not_after_ = SecondsOf(X509_get0_notAfter(ours.get()));
}

void ServerContext::SetClientCa(const std::string& text, Faults* faults) {
  std::string error;
  const auto all = ParseCertificates(text, &error);
  if (all.empty()) return faults->push_back({"client_ca_file", error});
  bssl::UniquePtr<STACK_OF(CRYPTO_BUFFER)> names(sk_CRYPTO_BUFFER_new_null());
  size_t size = 0;
  for (const auto& der : all) {
    const bssl::UniquePtr<X509> authority(X509_parse_from_buffer(der.get()));
    uint8_t* name = nullptr;
    const int length =
        authority == nullptr
            ? -1
            : i2d_X509_NAME(X509_get_subject_name(authority.get()), &name);
    const bssl::UniquePtr<uint8_t> owned(name);
    if (length < 0 || names == nullptr ||
        !X509_STORE_add_cert(client_ca_.get(), authority.get()) ||
        !bssl::PushToStack(names.get(),
                           bssl::UniquePtr<CRYPTO_BUFFER>(
                               CRYPTO_BUFFER_new(name, length, nullptr)))) {
      return faults->push_back(
          {"client_ca_file", "has a certificate that cannot be used"});
    }
    size += static_cast<size_t>(length) + 2;
  }
  if (size <= kMostNameBytes) {
    SSL_CTX_set0_client_CAs(ctx_.get(), names.release());
  }
}

std::shared_ptr<const TlsServerContext> TlsServerContext::Create(
    const TlsServerPems& pems, std::vector<TlsFault>* faults) {
  auto context = std::make_shared<ServerContext>();
  if (!context->Init(pems, faults)) return nullptr;
  return context;
}

}  // namespace hotline::net
