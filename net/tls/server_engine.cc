// The server's side of one connection.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <utility>

#include "net/tls/engine_base.h"
#include "net/tls/peer_names.h"
#include "net/tls/server.h"
#include "net/tls/server_context.h"
#include "net/tls/verify.h"

namespace hotline::net {
namespace {

// Library errors with a cause of their own.
struct Known {
  int reason;
  TlsFailure failure;
  const char* text;
};
constexpr char kNoVersion[] = "the caller supports neither TLS 1.2 nor TLS 1.3";
constexpr char kNoSuite[] =
    "no common cipher suite, group or signature algorithm";
constexpr char kNotItsOwn[] =
    "the caller did not prove that it holds its certificate's key";
constexpr char kUnfit[] = "the caller's certificate cannot be used for TLS";
constexpr Known kKnown[] = {
    {SSL_R_HTTP_REQUEST, TlsFailure::kNotTls,
     "the caller speaks plain HTTP/1.1, not TLS"},
    {SSL_R_HTTPS_PROXY_REQUEST, TlsFailure::kNotTls,
     "the caller speaks plain HTTP/1.1 to a proxy, not TLS"},
    {SSL_R_UNSUPPORTED_PROTOCOL, TlsFailure::kVersion, kNoVersion},
    {SSL_R_INAPPROPRIATE_FALLBACK, TlsFailure::kVersion,
     "the caller fell back to an older version of TLS than necessary"},
    {SSL_R_NO_SHARED_CIPHER, TlsFailure::kSuite, kNoSuite},
    {SSL_R_NO_SHARED_GROUP, TlsFailure::kSuite, kNoSuite},
    {SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS, TlsFailure::kSuite, kNoSuite},
    {SSL_R_NO_APPLICATION_PROTOCOL, TlsFailure::kNoH2,
     "the caller does not offer h2 by ALPN"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, TlsFailure::kNoCertificate,
     "the caller sent no certificate"},
    {SSL_R_BAD_SIGNATURE, TlsFailure::kBadCertificate, kNotItsOwn},
    {SSL_R_WRONG_SIGNATURE_TYPE, TlsFailure::kBadCertificate, kUnfit},
    {SSL_R_UNKNOWN_CERTIFICATE_TYPE, TlsFailure::kBadCertificate, kUnfit},
    {SSL_R_WRONG_CERTIFICATE_TYPE, TlsFailure::kBadCertificate, kUnfit},
    {SSL_R_CANNOT_PARSE_LEAF_CERT, TlsFailure::kBadCertificate, kUnfit},
    {SSL_R_ECC_CERT_NOT_FOR_SIGNING, TlsFailure::kBadCertificate, kUnfit},
    {SSL_R_KEY_USAGE_BIT_INCORRECT, TlsFailure::kBadCertificate, kUnfit},
};

// The oldest TLS error in the queue, else the newest error; empties the queue.
// 0: none. A bad signature is reported by the cipher before it is by TLS.
uint32_t TakeTlsErrorCode() {
  uint32_t code = ERR_get_error();
  while (code != 0 && SslReasonOf(code) == 0 && ERR_peek_error() != 0) {
    code = ERR_get_error();
  }
  ERR_clear_error();
  return code;
}

TlsFailure FailureOf(const Verification& found) {
  switch (found.code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return TlsFailure::kExpired;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return TlsFailure::kNotYetValid;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return TlsFailure::kUnknownCa;
    default:
      return TlsFailure::kBadCertificate;
  }
}

TlsResult ResultOf(TlsFailure failure) {
  switch (failure) {
    case TlsFailure::kNoH2:
      return TlsResult::kNoProtocol;
    case TlsFailure::kNoCertificate:
    case TlsFailure::kExpired:
    case TlsFailure::kNotYetValid:
    case TlsFailure::kUnknownCa:
    case TlsFailure::kBadCertificate:
      return TlsResult::kVerifyFailed;
    default:
      return TlsResult::kFailed;
  }
}

class ServerEngine final : public EngineBase<TlsServerEngine> {
 public:
  explicit ServerEngine(std::shared_ptr<const ServerContext> context)
      : context_(std::move(context)) {}

  bool Init() {
    if (!Open(context_->ctx())) return false;
    SSL_set_app_data(ssl(), this);
    SSL_set_accept_state(ssl());
    return true;
  }

  void Feed(std::string_view ciphertext) override {
    if (beginning_.size() < kBeginning) {
      beginning_ += ciphertext.substr(0, kBeginning - beginning_.size());
    }
    EngineBase::Feed(ciphertext);
  }

  TlsPeerNames TakePeerNames() override { return std::move(names_); }
  TlsFailure failure() const override { return failure_; }
  // The handshake ends when the caller has finished its part, too.
  bool refused() const override { return false; }

  // Callbacks of the library.
  ssl_verify_result_t Verify(uint8_t* out_alert) {
    // SelectH2 has refused callers that offer other protocols only. Callers
    // without ALPN, such as monitoring, get this far and have seen our
    // certificate.
    const uint8_t* alpn = nullptr;
    unsigned alpn_size = 0;
    SSL_get0_alpn_selected(ssl(), &alpn, &alpn_size);
    if (alpn_size == 0) {
      *out_alert = SSL_AD_NO_APPLICATION_PROTOCOL;
      return Refuse(TlsFailure::kNoH2,
                    "the caller does not use ALPN; h2 is required");
    }
    const Verification found = VerifyClient(context_->client_ca(), ssl());
    if (!found.accepted) {
      *out_alert = found.alert;
      return Refuse(FailureOf(found),
                    (found.depth == 0
                         ? "the caller's certificate is refused: "
                         : "the chain of the caller's certificate is refused "
                           "at depth " +
                               std::to_string(found.depth) + ": ") +
                        found.error);
    }
    if (!ReadPeerNames(found.leaf.get(), &names_)) {
      *out_alert = SSL_AD_BAD_CERTIFICATE;
      return Refuse(TlsFailure::kBadCertificate,
                    "the caller's certificate is refused: its alternative "
                    "names do not parse");
    }
    not_after_ = found.not_after;
    return ssl_verify_ok;
  }

 private:
  // The size of a record's header.
  static constexpr size_t kBeginning = 5;

  ssl_verify_result_t Refuse(TlsFailure failure, std::string error) {
    failure_ = failure;
    error_ = std::move(error);
    return ssl_verify_invalid;
  }

  TlsResult Fail() override {
    const uint32_t code = TakeTlsErrorCode();
    // The first failure is kept.
    if (failure_ == TlsFailure::kNone) Explain(code);
    return ResultOf(failure_);
  }

  void Explain(uint32_t code) {
    const int reason = SslReasonOf(code);
    failure_ = TlsFailure::kOther;
    error_ = code == 0 ? "TLS failed" : "TLS failed: " + LibraryErrorText(code);
    if (const int alert = AlertOf(code)) {
      failure_ = TlsFailure::kAlert;
      error_ = AlertText("the caller", alert);
    }
    for (const Known& known : kKnown) {
      if (known.reason != reason) continue;
      failure_ = known.failure;
      error_ = known.text;
    }
    if (reason == SSL_R_WRONG_VERSION_NUMBER && IsFirstRecord()) {
      failure_ = TlsFailure::kNotTls;
      error_ = beginning_ == "PRI *" ? "the caller speaks plain HTTP/2, not TLS"
                                     : "the caller does not speak TLS";
    }
  }

  // True before a ClientHello has been accepted.
  bool IsFirstRecord() const {
    return SSL_in_init(ssl()) && SSL_get_pending_cipher(ssl()) == nullptr;
  }

  const std::shared_ptr<const ServerContext> context_;
  std::string beginning_;  // The first bytes received.
  TlsFailure failure_ = TlsFailure::kNone;
  TlsPeerNames names_;
};

}  // namespace

ssl_verify_result_t VerifyCaller(SSL* ssl, uint8_t* out_alert) {
  return static_cast<ServerEngine*>(SSL_get_app_data(ssl))->Verify(out_alert);
}

std::string_view TlsFailureName(TlsFailure failure) {
  switch (failure) {
    case TlsFailure::kNone:
      return "";
    case TlsFailure::kNotTls:
      return "tls_not_tls";
    case TlsFailure::kVersion:
      return "tls_version";
    case TlsFailure::kSuite:
      return "tls_suite";
    case TlsFailure::kNoH2:
      return "tls_no_h2";
    case TlsFailure::kNoCertificate:
      return "tls_no_certificate";
    case TlsFailure::kExpired:
      return "tls_expired";
    case TlsFailure::kNotYetValid:
      return "tls_not_yet_valid";
    case TlsFailure::kUnknownCa:
      return "tls_unknown_ca";
    case TlsFailure::kBadCertificate:
      return "tls_bad_certificate";
    case TlsFailure::kAlert:
      return "tls_alert";
    case TlsFailure::kOther:
      return "tls_other";
  }
  return "tls_other";
}

std::unique_ptr<TlsServerEngine> TlsServerEngine::Create(
    std::shared_ptr<const TlsServerContext> context) {
  auto engine = std::make_unique<ServerEngine>(
      std::static_pointer_cast<const ServerContext>(std::move(context)));
  if (!engine->Init()) return nullptr;
  return engine;
}

}  // namespace hotline::net
