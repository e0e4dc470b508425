#include "net/tls/tls_profile.h"

namespace hotline::net {
namespace {

TlsProfile Modern() {
  TlsProfile profile;
  profile.name = "modern";
  profile.min_version = "1.3";
  return profile;
}

TlsProfile Compatible() {
  TlsProfile profile;
  profile.name = "compatible";
  profile.min_version = "1.0";
  profile.groups = {"X25519", "P-256", "P-384", "P-521"};
  profile.signature_algorithms = {"ecdsa_secp256r1_sha256",
                                  "rsa_pss_rsae_sha256",
                                  "rsa_pkcs1_sha256",
                                  "ecdsa_secp384r1_sha384",
                                  "rsa_pss_rsae_sha384",
                                  "rsa_pkcs1_sha384",
                                  "ecdsa_secp521r1_sha512",
                                  "rsa_pss_rsae_sha512",
                                  "rsa_pkcs1_sha512",
                                  "ed25519",
                                  "ecdsa_sha1",
                                  "rsa_pkcs1_sha1"};
  return profile;
}

TlsProfile Chromium() {
  TlsProfile profile;
  profile.name = "chromium";
  profile.ciphers = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                     "ECDHE-RSA-AES128-GCM-SHA256",
                     "ECDHE-ECDSA-AES256-GCM-SHA384",
                     "ECDHE-RSA-AES256-GCM-SHA384",
                     "ECDHE-ECDSA-CHACHA20-POLY1305",
                     "ECDHE-RSA-CHACHA20-POLY1305",
                     "ECDHE-RSA-AES128-SHA",
                     "ECDHE-RSA-AES256-SHA",
                     "AES128-GCM-SHA256",
                     "AES256-GCM-SHA384",
                     "AES128-SHA",
                     "AES256-SHA"};
  profile.groups = {"X25519", "P-256", "P-384"};
  profile.signature_algorithms = {
      "ecdsa_secp256r1_sha256", "rsa_pss_rsae_sha256", "rsa_pkcs1_sha256",
      "ecdsa_secp384r1_sha384", "rsa_pss_rsae_sha384", "rsa_pkcs1_sha384",
      "rsa_pss_rsae_sha512",    "rsa_pkcs1_sha512"};
  profile.grease = true;
  profile.permute_extensions = true;
  profile.certificate_compression = {"brotli"};
  profile.extra_extensions = {"status_request", "signed_certificate_timestamp",
                              "encrypted_client_hello"};
  return profile;
}

}  // namespace

const std::vector<TlsProfile>& BuiltInTlsProfiles() {
  static const auto* const profiles = [] {
    TlsProfile plain;
    plain.name = "default";
    return new std::vector<TlsProfile>{plain, Modern(), Compatible(),
                                       Chromium()};
  }();
  return *profiles;
}

}  // namespace hotline::net
