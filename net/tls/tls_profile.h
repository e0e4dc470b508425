// How a TLS connection presents itself, and whom it trusts: what an operator
// defines under `tls_profiles`. Words only; tls.h makes something of them.
//
// What is promised is what the library does with these settings. A profile is
// no impersonation of any other program: there is always more to tell them
// apart by.
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
  // What the upstream may sign with: "ecdsa_secp256r1_sha256", … Empty: the
  // library's.
  std::vector<std::string> signature_algorithms;
  // Offered in this order.
  std::vector<std::string> alpn = {"h2", "http/1.1"};
  bool grease = false;              // RFC 8701.
  bool permute_extensions = false;  // Another order for each connection.
  // "brotli", "zlib": what the upstream may compress its certificates with.
  std::vector<std::string> certificate_compression;
  // Sent beside what all that needs: "status_request",
  // "signed_certificate_timestamp", "encrypted_client_hello" (a GREASE one).
  // What the upstream answers to them is not used.
  std::vector<std::string> extra_extensions;
  bool session_tickets = true;  // False: no session is resumed.
  // PEM; both empty: no client certificate. The chain follows the certificate.
  std::string cert_file;
  std::string key_file;
  // PEM; empty: the system's authorities.
  std::string ca_file;
  // "sha256/BASE64" of public keys (SubjectPublicKeyInfo), one of which must be
  // in the verified chain. Empty: any. In addition to all other checks.
  std::vector<std::string> pins;
  // Accept chains that are signed with SHA-1, or hold RSA keys below 2048 bits.
  bool allow_weak_certificates = false;

  friend bool operator==(const TlsProfile&, const TlsProfile&) = default;
};

// What is wrong with a profile: the key ("ciphers[2]"; empty: the whole) and
// why.
struct TlsFault {
  std::string key;
  std::string text;
};

// "default": TLS 1.2 and 1.3 and the library's own lists.
// "modern": TLS 1.3 only.
// "compatible": TLS 1.0 to 1.3 and all that the library knows, for upstreams
// that cannot do better.
// "chromium": the shape that the library is mostly used in.
const std::vector<TlsProfile>& BuiltInTlsProfiles();

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_TLS_PROFILE_H_
