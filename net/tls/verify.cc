#include "net/tls/verify.h"

#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/stack.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <utility>

namespace hotline::net {
namespace {

uint8_t AlertFor(int verify_error) {
  switch (verify_error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return SSL_AD_CERTIFICATE_EXPIRED;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return SSL_AD_UNKNOWN_CA;
    case X509_V_ERR_OUT_OF_MEM:
      return SSL_AD_INTERNAL_ERROR;
    default:
      return SSL_AD_BAD_CERTIFICATE;
  }
}

// The chain that the peer sent. Null: it does not parse or, with `*parses`, out
// of memory.
bssl::UniquePtr<STACK_OF(X509)> ShownChain(const SSL* ssl, bool* parses) {
  *parses = true;
  const STACK_OF(CRYPTO_BUFFER)* shown = SSL_get0_peer_certificates(ssl);
  bssl::UniquePtr<STACK_OF(X509)> chain(sk_X509_new_null());
  const size_t count = shown == nullptr ? 0 : sk_CRYPTO_BUFFER_num(shown);
  for (size_t i = 0; i < count && chain != nullptr; ++i) {
    bssl::UniquePtr<X509> certificate(
        X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(shown, i)));
    *parses = certificate != nullptr;
    if (!*parses || !bssl::PushToStack(chain.get(), std::move(certificate))) {
      return nullptr;
    }
  }
  return count == 0 ? nullptr : std::move(chain);
}

// Prepares the check of a leaf for `name`.
bool DemandName(X509_STORE_CTX* check, const std::string& name) {
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(check);
  if (IsIpAddress(name)) {
    return X509_VERIFY_PARAM_set1_ip_asc(param, name.c_str()) == 1;
  }
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return X509_VERIFY_PARAM_set1_host(param, name.data(), name.size()) == 1;
}

bool IsPinned(const std::vector<Pin>& pins, X509* certificate) {
  uint8_t* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  if (size <= 0) return false;
  Pin pin;
  SHA256(der, static_cast<size_t>(size), pin.data());
  OPENSSL_free(der);
  return std::find(pins.begin(), pins.end(), pin) != pins.end();
}

// The verified chain, up to the authority.
bool HasPinnedKey(const std::vector<Pin>* pins, X509_STORE_CTX* check) {
  if (pins == nullptr || pins->empty()) return true;
  const STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(check);
  for (size_t i = 0; i < sk_X509_num(chain); ++i) {
    if (IsPinned(*pins, sk_X509_value(chain, i))) return true;
  }
  return false;
}

constexpr int kLeastRsaBits = 2048;

// NID_undef: the algorithm names no digest, as in Ed25519.
int DigestOfSignature(const X509* certificate) {
  const int algorithm = X509_get_signature_nid(certificate);
  if (algorithm != NID_rsassaPss) {
    int digest = NID_undef;
    OBJ_find_sigid_algs(algorithm, &digest, nullptr);
    return digest;
  }
  const X509_ALGOR* pss = nullptr;
  X509_get0_signature(nullptr, &pss, certificate);
  const ASN1_OBJECT* object = nullptr;
  int type = V_ASN1_UNDEF;
  const void* value = nullptr;
  X509_ALGOR_get0(&object, &type, &value, pss);
  if (type != V_ASN1_SEQUENCE) return NID_sha1;  // Absent: SHA-1.
  const bssl::UniquePtr<RSA_PSS_PARAMS> params(static_cast<RSA_PSS_PARAMS*>(
      ASN1_item_unpack(static_cast<const ASN1_STRING*>(value),
                       ASN1_ITEM_rptr(RSA_PSS_PARAMS))));
  if (params == nullptr || params->hashAlgorithm == nullptr) return NID_sha1;
  X509_ALGOR_get0(&object, nullptr, nullptr, params->hashAlgorithm);
  return OBJ_obj2nid(object);
}

bool HasWeakSignature(const X509* certificate) {
  switch (DigestOfSignature(certificate)) {
    case NID_sha1:
    case NID_md5_sha1:
    case NID_md5:
    case NID_md4:
    case NID_md2:
      return true;
    default:
      return false;
  }
}

bool HasShortKey(X509* certificate) {
  const bssl::UniquePtr<EVP_PKEY> key(X509_get_pubkey(certificate));
  return key != nullptr && EVP_PKEY_id(key.get()) == EVP_PKEY_RSA &&
         EVP_PKEY_bits(key.get()) < kLeastRsaBits;
}

// The weakness that would allow forging a part of the verified chain, or null.
// The last certificate is a trusted authority: neither its own signature nor
// its key is checked, unless it is the peer's own certificate.
const char* FindWeakness(X509_STORE_CTX* check) {
  const STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(check);
  const size_t count = sk_X509_num(chain);
  for (size_t i = 0; i < count; ++i) {
    const bool authority = i + 1 == count;
    X509* const certificate = sk_X509_value(chain, i);
    if (!authority && HasWeakSignature(certificate)) {
      return i == 0 ? "the certificate is signed with a broken digest (SHA-1 "
                      "or older)"
                    : "an intermediate certificate is signed with a broken "
                      "digest (SHA-1 or older)";
    }
    if ((i == 0 || !authority) && HasShortKey(certificate)) {
      return i == 0 ? "the certificate's RSA key is shorter than 2048 bits"
                    : "an intermediate certificate's RSA key is shorter than "
                      "2048 bits";
    }
  }
  return nullptr;
}

// The requirements on a chain.
struct Demands {
  X509_STORE* authorities;
  const char* purpose;      // The library's name for it.
  unsigned long flags;      // X509_V_FLAG_…
  const std::string* name;  // Null: any.
  bool allow_weak;
  const std::vector<Pin>* pins;  // Null or empty: any.
};

bool SetUp(X509_STORE_CTX* check, STACK_OF(X509) * chain,
           const Demands& demands) {
  if (!X509_STORE_CTX_init(check, demands.authorities, sk_X509_value(chain, 0),
                           chain) ||
      !X509_STORE_CTX_set_default(check, demands.purpose)) {
    return false;
  }
  X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(check), demands.flags);
  return demands.name == nullptr || DemandName(check, *demands.name);
}

Verification VerifyShown(const SSL* ssl, const Demands& demands) {
  Verification out;
  bool parses = true;
  const bssl::UniquePtr<STACK_OF(X509)> chain = ShownChain(ssl, &parses);
  if (!parses) {
    out.alert = SSL_AD_DECODE_ERROR;
    out.error = "a certificate that does not parse";
    return out;
  }
  const bssl::UniquePtr<X509_STORE_CTX> check(X509_STORE_CTX_new());
  if (chain == nullptr || check == nullptr ||
      !SetUp(check.get(), chain.get(), demands)) {
    return out;
  }
  out.leaf = bssl::UpRef(sk_X509_value(chain.get(), 0));
  if (X509_verify_cert(check.get()) != 1) {
    out.code = X509_STORE_CTX_get_error(check.get());
    out.depth = X509_STORE_CTX_get_error_depth(check.get());
    out.alert = AlertFor(out.code);
    out.error = X509_verify_cert_error_string(out.code);
    return out;
  }
  const char* const weakness =
      demands.allow_weak ? nullptr : FindWeakness(check.get());
  if (weakness != nullptr) {
    out.alert = SSL_AD_INSUFFICIENT_SECURITY;
    out.error = weakness;
    return out;
  }
  if (!HasPinnedKey(demands.pins, check.get())) {
    out.alert = SSL_AD_CERTIFICATE_UNKNOWN;
    out.error = "it is valid, but none of the keys in its chain is pinned";
    return out;
  }
  out.accepted = true;
  out.error.clear();
  out.not_after = SecondsOf(X509_get0_notAfter(out.leaf.get()));
  return out;
}

}  // namespace

int64_t SecondsOf(const ASN1_TIME* time) {
  const bssl::UniquePtr<ASN1_TIME> epoch(ASN1_TIME_set(nullptr, 0));
  int days = 0;
  int seconds = 0;
  if (epoch == nullptr || !ASN1_TIME_diff(&days, &seconds, epoch.get(), time)) {
    return 0;
  }
  return int64_t{days} * 86400 + seconds;
}

bool IsIpAddress(const std::string& name) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

Verification Verify(const Context& context, const SSL* ssl,
                    const std::string& name) {
  return VerifyShown(ssl,
                     {.authorities = context.store(),
                      .purpose = "ssl_server",
                      .flags = X509_V_FLAG_TRUSTED_FIRST,
                      .name = &name,
                      .allow_weak = context.profile().allow_weak_certificates,
                      .pins = &context.pins()});
}

Verification VerifyClient(X509_STORE* authorities, const SSL* ssl) {
  return VerifyShown(
      ssl, {.authorities = authorities,
            .purpose = "ssl_client",
            .flags = X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN,
            .name = nullptr,
            .allow_weak = false,
            .pins = nullptr});
}

}  // namespace hotline::net
