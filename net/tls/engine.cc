// The client's side of one connection.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <utility>

#include "net/tls/context.h"
#include "net/tls/engine_base.h"
#include "net/tls/verify.h"

namespace hotline::net {
namespace {

// Alerts that a server sends about the client's part of the handshake, not
// about later data.
bool RefusesHandshake(int alert) {
  switch (alert) {
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_NO_CERTIFICATE:
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_DECRYPT_ERROR:
    case SSL_AD_INSUFFICIENT_SECURITY:
    case SSL_AD_CERTIFICATE_REQUIRED:
      return true;
    default:
      return false;
  }
}

class Engine final : public EngineBase<TlsEngine> {
 public:
  Engine(std::shared_ptr<const Context> context, std::string name,
         std::string_view scope)
      : context_(std::move(context)), name_(std::move(name)) {
    if (context_->sessions() == nullptr) return;
    session_key_ = context_->session_prefix() + name_ + "|";
    session_key_ += scope;
  }

  bool Init(const std::vector<std::string>& alpn) {
    if (!Open(context_->ctx())) return false;
    SSL_set_app_data(ssl(), this);
    SSL_set_connect_state(ssl());
    if (!IsIpAddress(name_) &&
        !SSL_set_tlsext_host_name(ssl(), name_.c_str())) {
      ERR_clear_error();
      return false;
    }
    SSL_set_enable_ech_grease(ssl(), context_->ech_grease());
    if (Sessions* sessions = context_->sessions()) {
      offered_ = sessions->Take(session_key_);
      if (offered_ != nullptr) SSL_set_session(ssl(), offered_.get());
    }
    return OfferAlpn(alpn);
  }

  TlsResult Handshake(std::string* out) override {
    const TlsResult end = EngineBase::Handshake(out);
    if (end == TlsResult::kOk) {
      offered_ = nullptr;
    } else if (end != TlsResult::kWantInput && offered_ != nullptr) {
      // The session may be the cause: the next attempt does not offer it.
      context_->sessions()->Forget(session_key_, offered_.get());
    }
    return end;
  }

  TlsResult Read(char* buffer, size_t capacity, size_t* size,
                 std::string* out) override {
    const TlsResult end = EngineBase::Read(buffer, capacity, size, out);
    if (end == TlsResult::kOk) accepted_ = true;
    return end;
  }

  bool refused() const override { return refused_; }

  // Callbacks of the library.
  ssl_verify_result_t VerifyShown(uint8_t* out_alert) {
    Verification found = Verify(*context_, ssl(), name_);
    verify_failed_ = !found.accepted;
    *out_alert = found.alert;
    error_ = std::move(found.error);
    not_after_ = found.not_after;
    return found.accepted ? ssl_verify_ok : ssl_verify_invalid;
  }
  void Keep(bssl::UniquePtr<SSL_SESSION> session) {
    accepted_ = true;
    context_->sessions()->Put(session_key_, std::move(session));
  }

 private:
  bool OfferAlpn(const std::vector<std::string>& alpn) {
    std::string wire;
    for (const std::string& protocol : alpn) {
      wire.push_back(static_cast<char>(protocol.size()));
      wire += protocol;
    }
    return wire.empty() ||
           SSL_set_alpn_protos(ssl(),
                               reinterpret_cast<const uint8_t*>(wire.data()),
                               static_cast<unsigned>(wire.size())) == 0;
  }

  TlsResult Fail() override {
    const uint32_t code = TakeLibraryErrorCode();
    if (verify_failed_) return TlsResult::kVerifyFailed;
    error_ = code == 0 ? "TLS failed" : LibraryErrorText(code);
    if (const int alert = AlertOf(code)) {
      error_ = AlertText("the upstream", alert);
      refused_ = RefusesHandshake(alert) && !accepted_ && !SSL_in_init(ssl()) &&
                 SSL_version(ssl()) == TLS1_3_VERSION;
    }
    const int cause = SslReasonOf(code);
    if (cause == SSL_R_WRONG_VERSION_NUMBER && SSL_in_init(ssl())) {
      error_ = "the upstream does not speak TLS (" + error_ + ")";
    }
    return cause == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL
               ? TlsResult::kNoProtocol
               : TlsResult::kFailed;
  }

  const std::shared_ptr<const Context> context_;
  const std::string name_;
  bool verify_failed_ = false;
  bool accepted_ = false;  // Data or a ticket arrived: the peer has finished.
  bool refused_ = false;
  std::string session_key_;
  bssl::UniquePtr<SSL_SESSION> offered_;  // Until the handshake ends.
};

}  // namespace

ssl_verify_result_t VerifyPeer(SSL* ssl, uint8_t* out_alert) {
  return static_cast<Engine*>(SSL_get_app_data(ssl))->VerifyShown(out_alert);
}

int KeepSession(SSL* ssl, SSL_SESSION* session) {
  static_cast<Engine*>(SSL_get_app_data(ssl))
      ->Keep(bssl::UniquePtr<SSL_SESSION>(session));
  return 1;
}

std::unique_ptr<TlsEngine> TlsEngine::Create(
    std::shared_ptr<const TlsContext> context, const std::string& name,
    const std::vector<std::string>& alpn, std::string_view scope) {
  std::string plain_name = name;
  // Neither SNI nor certificates have the trailing dot of an absolute name.
  if (!plain_name.empty() && plain_name.back() == '.') plain_name.pop_back();
  auto engine = std::make_unique<Engine>(
      std::static_pointer_cast<const Context>(std::move(context)),
      std::move(plain_name), scope);
  if (!engine->Init(alpn)) return nullptr;
  return engine;
}

}  // namespace hotline::net
