// A TLS profile: how a connection presents itself and which authorities it
// trusts, as configured under `tls_profiles`. Plain values; TlsContext (tls.h)
// applies them.
//
//   TlsProfile profile{.name = "mine", .min_version = "1.3"};
//   std::vector<TlsFault> faults = CheckTlsProfile(profile);   // In tls.h.
//
// A profile promises only what the library does with these settings. It does
// not impersonate another program: other differences always remain.
#ifndef HOTLINE_NET_TLS_TLS_PROFILE_H_
#define HOTLINE_NET_TLS_TLS_PROFILE_H_

#include <string>
#include <vector>

namespace hotline::net {

struct TlsProfile {
  std::string name;
  // "1.0", "1.1", "1.2", "1.3".
  std::string min_version = "1.2";
  std::string max_version = "1.3";
  // Suites of TLS 1.2 and older, in order of preference, by the standard's
  // names or OpenSSL's. Empty: the library's. Those of TLS 1.3, and their
  // order, are always the library's.
  std::vector<std::string> ciphers;
  // "X25519", "P-256", "P-384", "P-521", in order. Empty: the library's.
  std::vector<std::string> groups;
  // Accepted from the upstream: "ecdsa_secp256r1_sha256", … Empty: the
  // library's.
  std::vector<std::string> signature_algorithms;
  // Offered in this order.
  std::vector<std::string> alpn = {"h2", "http/1.1"};
  bool grease = false;              // RFC 8701.
  bool permute_extensions = false;  // A random order for each connection.
  // Algorithms for the upstream's certificates: "brotli", "zlib".
  std::vector<std::string> certificate_compression;
  // Sent in addition: "status_request", "signed_certificate_timestamp",
  // "encrypted_client_hello" (GREASE). The upstream's responses are ignored.
  std::vector<std::string> extra_extensions;
  bool session_tickets = true;  // False: no session is resumed.
  // PEM; both empty: no client certificate. The certificate comes first, then
  // its chain.
  std::string cert_file;
  std::string key_file;
  // PEM; empty: the system's authorities.
  std::string ca_file;
  // "sha256/BASE64" of public keys (SubjectPublicKeyInfo), one of which must be
  // in the verified chain. Empty: any. In addition to all other checks.
  std::vector<std::string> pins;
  // Accept chains with SHA-1 signatures or RSA keys below 2048 bits.
  bool allow_weak_certificates = false;

  friend bool operator==(const TlsProfile&, const TlsProfile&) = default;
};

// A fault of a profile: the key ("ciphers[2]"; empty: the whole profile) and
// the reason.
struct TlsFault {
  std::string key;
  std::string text;
};

// "default": TLS 1.2 and 1.3 with the library's lists.
// "modern": TLS 1.3 only.
// "compatible": TLS 1.0 to 1.3 with everything the library supports, for old
// upstreams.
// "chromium": the library's settings in Chromium, its main user.
const std::vector<TlsProfile>& BuiltInTlsProfiles();

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_TLS_PROFILE_H_
