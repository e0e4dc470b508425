#include "net/tls/context.h"

#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pool.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

#include "net/tls/pem_files.h"

namespace hotline::net {
namespace {

constexpr char kSystemCaFile[] = "/etc/ssl/certs/ca-certificates.crt";
constexpr char kSystemCaDirectory[] = "/etc/ssl/certs";

struct Version {
  const char* name;
  uint16_t value;
};
constexpr Version kVersions[] = {{"1.0", TLS1_VERSION},
                                 {"1.1", TLS1_1_VERSION},
                                 {"1.2", TLS1_2_VERSION},
                                 {"1.3", TLS1_3_VERSION}};

struct Group {
  const char* name;
  int nid;
};
constexpr Group kGroups[] = {{"X25519", NID_X25519},
                             {"P-256", NID_X9_62_prime256v1},
                             {"P-384", NID_secp384r1},
                             {"P-521", NID_secp521r1}};

constexpr uint16_t kSignatureAlgorithms[] = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_ECDSA_SECP384R1_SHA384,
    SSL_SIGN_ECDSA_SECP521R1_SHA512, SSL_SIGN_ED25519,
    SSL_SIGN_RSA_PSS_RSAE_SHA256,    SSL_SIGN_RSA_PSS_RSAE_SHA384,
    SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA256,
    SSL_SIGN_RSA_PKCS1_SHA384,       SSL_SIGN_RSA_PKCS1_SHA512,
    SSL_SIGN_RSA_PKCS1_SHA1,         SSL_SIGN_ECDSA_SHA1};

// 0: unknown.
uint16_t VersionOf(const std::string& name) {
  for (const Version& version : kVersions) {
    if (name == version.name) return version.value;
  }
  return 0;
}

uint16_t SignatureAlgorithmOf(const std::string& name) {
  for (const uint16_t algorithm : kSignatureAlgorithms) {
    if (name == SSL_get_signature_algorithm_name(algorithm, 1)) {
      return algorithm;
    }
  }
  return 0;
}

std::string Item(const char* key, size_t i) {
  return std::string(key) + "[" + std::to_string(i) + "]";
}

// Reports duplicates in a list.
void CheckDoubles(const char* key, const std::vector<std::string>& list,
                  std::vector<TlsFault>* faults) {
  for (size_t i = 0; i < list.size(); ++i) {
    if (std::find(list.begin(), list.begin() + i, list[i]) !=
        list.begin() + i) {
      faults->push_back({Item(key, i), "given twice"});
    }
  }
}

std::string NextPrefix() {
  static std::atomic<uint64_t> last{0};
  return std::to_string(++last) + "|";
}

}  // namespace

uint32_t TakeLibraryErrorCode() {
  const uint32_t code = ERR_get_error();
  ERR_clear_error();
  return code;
}

std::string LibraryErrorText(uint32_t code) {
  if (code == 0) return "";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "error " + std::to_string(code);
}

CRYPTO_BUFFER_POOL* CertificatePool() {
  static CRYPTO_BUFFER_POOL* const pool = CRYPTO_BUFFER_POOL_new();
  return pool;
}

bool SetChainAndKey(SSL_CTX* ctx,
                    const std::vector<bssl::UniquePtr<CRYPTO_BUFFER>>& chain,
                    EVP_PKEY* key) {
  std::vector<CRYPTO_BUFFER*> certificates;
  for (const auto& certificate : chain) {
    certificates.push_back(certificate.get());
  }
  return SSL_CTX_set_chain_and_key(ctx, certificates.data(),
                                   certificates.size(), key, nullptr) == 1;
}

bool Authorities::Read(const std::string& ca_file, std::string* error) {
  const bool system = ca_file.empty();
  const char* path = system ? kSystemCaFile : ca_file.c_str();
  const int loaded = store_ == nullptr ? 0
                                       : X509_STORE_load_locations(
                                             store_.get(), path, nullptr);
  // A container image may have only the directory, which is read on demand.
  const bool directory =
      system && store_ != nullptr &&
      X509_STORE_load_locations(store_.get(), nullptr, kSystemCaDirectory);
  const std::string reason = LibraryErrorText(TakeLibraryErrorCode());
  if (loaded || directory) return true;
  *error = std::string("no authorities can be read from ") + path + ": " +
           (reason.empty() ? "unknown error" : reason);
  return false;
}

std::shared_ptr<const TlsAuthorities> TlsAuthorities::Load(
    const std::string& ca_file, std::string* error) {
  auto authorities = std::make_shared<Authorities>();
  if (!authorities->Read(ca_file, error)) return nullptr;
  return authorities;
}

std::shared_ptr<const TlsAuthorities> TlsAuthorities::None() {
  return std::make_shared<Authorities>();
}

const char* TlsAuthorities::SystemFile() { return kSystemCaFile; }

Context::Context(TlsProfile profile,
                 std::shared_ptr<const Authorities> authorities,
                 std::shared_ptr<Sessions> sessions)
    : profile_(std::move(profile)),
      authorities_(std::move(authorities)),
      sessions_(std::move(sessions)),
      session_prefix_(NextPrefix()) {}

Context::~Context() {
  if (sessions_ != nullptr) sessions_->ForgetAll(session_prefix_);
}

bool Context::Init(uint32_t session_seconds, Faults* faults) {
  ctx_.reset(SSL_CTX_new(TLS_with_buffers_method()));
  if (ctx_ == nullptr) {
    faults->push_back({"", LibraryErrorText(TakeLibraryErrorCode())});
    return false;
  }
  SSL_CTX_set0_buffer_pool(ctx_.get(), CertificatePool());
  // Accepted here, so that the dial can report the protocol chosen.
  SSL_CTX_set_allow_unknown_alpn_protos(ctx_.get(), 1);
  SSL_CTX_set_custom_verify(ctx_.get(), SSL_VERIFY_PEER, VerifyPeer);
  // Refuses a certificate that has expired or lost its trust since.
  SSL_CTX_set_reverify_on_resume(ctx_.get(), 1);
  SSL_CTX_set_early_data_enabled(ctx_.get(), 0);
  const size_t before = faults->size();
  SetVersions(faults);
  SetCiphers(faults);
  SetGroups(faults);
  SetSignatureAlgorithms(faults);
  SetExtensions(faults);
  SetCompression(faults);
  SetResumption(session_seconds);
  SetClientCertificate(faults);
  SetPins(faults);
  ERR_clear_error();
  return faults->size() == before;
}

void Context::SetVersions(Faults* faults) {
  const uint16_t least = VersionOf(profile_.min_version);
  const uint16_t most = VersionOf(profile_.max_version);
  if (least == 0) {
    faults->push_back({"min_version", "must be 1.0, 1.1, 1.2 or 1.3"});
  }
  if (most == 0) {
    faults->push_back({"max_version", "must be 1.0, 1.1, 1.2 or 1.3"});
  }
  if (least == 0 || most == 0) return;
  if (least > most) {
    faults->push_back({"min_version", "must not be above max_version (" +
                                          profile_.max_version + "), as " +
                                          profile_.min_version + " is"});
  }
  SSL_CTX_set_min_proto_version(ctx_.get(), least);
  SSL_CTX_set_max_proto_version(ctx_.get(), most);
}

void Context::SetCiphers(Faults* faults) {
  const auto& names = profile_.ciphers;
  if (names.empty()) return;
  if (profile_.min_version == "1.3") {
    faults->push_back({"ciphers",
                       "have no meaning with min_version 1.3: its suites, and "
                       "their order, are the library's"});
  }
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    // The library accepts expressions; here each entry must name one suite.
    bool known = SSL_CTX_set_strict_cipher_list(ctx_.get(), names[i].c_str());
    const STACK_OF(SSL_CIPHER)* found = SSL_CTX_get_ciphers(ctx_.get());
    known = known && sk_SSL_CIPHER_num(found) == 1;
    const SSL_CIPHER* cipher = known ? sk_SSL_CIPHER_value(found, 0) : nullptr;
    if (!known || (names[i] != SSL_CIPHER_get_name(cipher) &&
                   names[i] != SSL_CIPHER_standard_name(cipher))) {
      faults->push_back({Item("ciphers", i),
                         "is not the name of a suite of TLS 1.2 or older that "
                         "the library has: \"" +
                             names[i].substr(0, 60) + "\""});
    }
    list += (i == 0 ? "" : ":") + names[i];
  }
  CheckDoubles("ciphers", names, faults);
  SSL_CTX_set_strict_cipher_list(ctx_.get(), list.c_str());
}

void Context::SetGroups(Faults* faults) {
  std::vector<int> nids;
  for (size_t i = 0; i < profile_.groups.size(); ++i) {
    const std::string& name = profile_.groups[i];
    const auto group =
        std::find_if(std::begin(kGroups), std::end(kGroups),
                     [&](const Group& known) { return name == known.name; });
    if (group == std::end(kGroups)) {
      faults->push_back(
          {Item("groups", i), "must be X25519, P-256, P-384 or P-521; not \"" +
                                  name.substr(0, 60) + "\""});
    } else {
      nids.push_back(group->nid);
    }
  }
  CheckDoubles("groups", profile_.groups, faults);
  if (!nids.empty()) {
    SSL_CTX_set1_curves(ctx_.get(), nids.data(), nids.size());
  }
}

void Context::SetSignatureAlgorithms(Faults* faults) {
  const auto& names = profile_.signature_algorithms;
  std::vector<uint16_t> algorithms;
  for (size_t i = 0; i < names.size(); ++i) {
    const uint16_t algorithm = SignatureAlgorithmOf(names[i]);
    if (algorithm == 0) {
      faults->push_back({Item("signature_algorithms", i),
                         "is not one that the library has, such as "
                         "ecdsa_secp256r1_sha256 or rsa_pss_rsae_sha256: \"" +
                             names[i].substr(0, 60) + "\""});
    } else {
      algorithms.push_back(algorithm);
    }
  }
  CheckDoubles("signature_algorithms", names, faults);
  if (!algorithms.empty() &&
      !SSL_CTX_set_verify_algorithm_prefs(ctx_.get(), algorithms.data(),
                                          algorithms.size())) {
    faults->push_back(
        {"signature_algorithms", LibraryErrorText(TakeLibraryErrorCode())});
  }
}

void Context::SetExtensions(Faults* faults) {
  SSL_CTX_set_grease_enabled(ctx_.get(), profile_.grease);
  SSL_CTX_set_permute_extensions(ctx_.get(), profile_.permute_extensions);
  const auto& extra = profile_.extra_extensions;
  for (size_t i = 0; i < extra.size(); ++i) {
    if (extra[i] == "status_request") {
      SSL_CTX_enable_ocsp_stapling(ctx_.get());
    } else if (extra[i] == "signed_certificate_timestamp") {
      SSL_CTX_enable_signed_cert_timestamps(ctx_.get());
    } else if (extra[i] == "encrypted_client_hello") {
      ech_grease_ = true;
    } else {
      faults->push_back(
          {Item("extra_extensions", i),
           "must be status_request, signed_certificate_timestamp or "
           "encrypted_client_hello; not \"" +
               extra[i].substr(0, 60) + "\""});
    }
  }
  CheckDoubles("extra_extensions", extra, faults);
  const auto& alpn = profile_.alpn;
  for (size_t i = 0; i < alpn.size(); ++i) {
    if (alpn[i] == "h2" || alpn[i] == "http/1.1") continue;
    faults->push_back({Item("alpn", i), "must be h2 or http/1.1"});
  }
  CheckDoubles("alpn", alpn, faults);
}

void Context::SetCompression(Faults* faults) {
  const auto& names = profile_.certificate_compression;
  if (!names.empty() && VersionOf(profile_.max_version) < TLS1_3_VERSION) {
    faults->push_back(
        {"certificate_compression", "has no meaning below TLS 1.3"});
  }
  CheckDoubles("certificate_compression", names, faults);
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == "brotli" || names[i] == "zlib") {
      // Fails for a duplicate, which has been reported.
      AddCertificateCompression(ctx_.get(), names[i]);
    } else {
      faults->push_back(
          {Item("certificate_compression", i), "must be brotli or zlib"});
    }
  }
}

void Context::SetResumption(uint32_t session_seconds) {
  if (sessions() == nullptr) {
    SSL_CTX_set_session_cache_mode(ctx_.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx_.get(), SSL_OP_NO_TICKET);
    return;
  }
  SSL_CTX_set_session_cache_mode(ctx_.get(), SSL_SESS_CACHE_CLIENT);
  SSL_CTX_sess_set_new_cb(ctx_.get(), KeepSession);
  SSL_CTX_set_timeout(ctx_.get(), session_seconds);
  SSL_CTX_set_session_psk_dhe_timeout(ctx_.get(), session_seconds);
}

void Context::SetClientCertificate(Faults* faults) {
  if (profile_.cert_file.empty() && profile_.key_file.empty()) return;
  std::string error;
  const auto chain = ReadCertificates(profile_.cert_file, &error);
  if (chain.empty()) {
    faults->push_back({"client_certificate.cert_file", error});
  }
  const auto key = ReadPrivateKey(profile_.key_file, &error);
  if (key == nullptr) {
    faults->push_back({"client_certificate.key_file", error});
  }
  if (chain.empty() || key == nullptr) return;
  if (!SetChainAndKey(ctx_.get(), chain, key.get())) {
    faults->push_back({"client_certificate",
                       "the key in " + profile_.key_file +
                           " does not fit the certificate in " +
                           profile_.cert_file + " (" +
                           LibraryErrorText(TakeLibraryErrorCode()) + ")"});
  }
}

void Context::SetPins(Faults* faults) {
  for (size_t i = 0; i < profile_.pins.size(); ++i) {
    Pin pin;
    if (ParsePin(profile_.pins[i], &pin)) {
      pins_.push_back(pin);
    } else {
      faults->push_back(
          {Item("pins", i),
           "must be sha256/ and the base64 of a SubjectPublicKeyInfo's "
           "SHA-256, which has 44 characters"});
    }
  }
  CheckDoubles("pins", profile_.pins, faults);
}

std::vector<TlsFault> CheckTlsProfile(const TlsProfile& profile) {
  std::vector<TlsFault> faults;
  std::string error;
  if (!profile.ca_file.empty() &&
      TlsAuthorities::Load(profile.ca_file, &error) == nullptr) {
    faults.push_back({"ca_file", error});
  }
  TlsContext::Create(profile, TlsAuthorities::None(), nullptr, 0, &faults);
  return faults;
}

std::shared_ptr<const TlsContext> TlsContext::Create(
    const TlsProfile& profile,
    std::shared_ptr<const TlsAuthorities> authorities,
    std::shared_ptr<TlsSessions> sessions, uint32_t session_seconds,
    std::vector<TlsFault>* faults) {
  auto context = std::make_shared<Context>(
      profile, std::static_pointer_cast<const Authorities>(authorities),
      std::static_pointer_cast<Sessions>(sessions));
  if (!context->Init(session_seconds, faults)) return nullptr;
  return context;
}

std::string TlsLibraryVersion() {
  return "API " + std::to_string(BORINGSSL_API_VERSION);
}

}  // namespace hotline::net
