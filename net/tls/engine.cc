// The client's side of one connection.
#include <arpa/inet.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#include <algorithm>
#include <utility>

#include "net/tls/context.h"
#include "net/tls/verify.h"

namespace hotline::net {
namespace {

const BIO_METHOD* WireMethod();

// The peer's fatal alert that an error of the library stands for; 0: none.
int AlertOf(uint32_t code) {
  const bool tls = ERR_GET_LIB(code) == ERR_LIB_SSL;
  const int alert = tls ? ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET : 0;
  return alert > 0 && alert < 256 ? alert : 0;
}

// Alerts that a server sends about the client's part of the handshake, and not
// about what came after it.
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

class Engine final : public TlsEngine {
 public:
  Engine(std::shared_ptr<const Context> context, std::string name,
         std::string_view scope)
      : context_(std::move(context)), name_(std::move(name)) {
    if (context_->sessions() == nullptr) return;
    session_key_ = context_->session_prefix() + name_ + "|";
    session_key_ += scope;
  }

  bool Init(const std::vector<std::string>& alpn) {
    ssl_.reset(SSL_new(context_->ctx()));
    BIO* wire = ssl_ == nullptr ? nullptr : BIO_new(WireMethod());
    if (wire == nullptr) return false;
    BIO_set_data(wire, this);
    BIO_set_init(wire, 1);
    SSL_set_bio(ssl_.get(), wire, wire);
    SSL_set_app_data(ssl_.get(), this);
    SSL_set_connect_state(ssl_.get());
    // What only the handshake needs is given back once it is done.
    SSL_set_shed_handshake_config(ssl_.get(), 1);
    if (!IsIpAddress(name_) &&
        !SSL_set_tlsext_host_name(ssl_.get(), name_.c_str())) {
      ERR_clear_error();
      return false;
    }
    SSL_set_enable_ech_grease(ssl_.get(), context_->ech_grease());
    if (Sessions* sessions = context_->sessions()) {
      offered_ = sessions->Take(session_key_);
      if (offered_ != nullptr) SSL_set_session(ssl_.get(), offered_.get());
    }
    return OfferAlpn(alpn);
  }

  void Feed(std::string_view ciphertext) override { input_ = ciphertext; }

  TlsResult Handshake(std::string* out) override {
    out_ = out;
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) {
      offered_ = nullptr;
      return TlsResult::kOk;
    }
    const TlsResult end = Classify(result);
    // Maybe it was the session's fault: the next attempt goes without.
    if (end != TlsResult::kWantInput && offered_ != nullptr) {
      context_->sessions()->Forget(session_key_, offered_.get());
    }
    return end;
  }

  TlsResult Read(char* buffer, size_t capacity, size_t* size,
                 std::string* out) override {
    *size = 0;
    // Spares the library a look into an empty input.
    if (input_.empty() && SSL_pending(ssl_.get()) == 0) {
      return TlsResult::kWantInput;
    }
    out_ = out;
    ERR_clear_error();
    const int limit = static_cast<int>(std::min<size_t>(capacity, INT_MAX));
    const int result = SSL_read(ssl_.get(), buffer, limit);
    if (result <= 0) return Classify(result);
    accepted_ = true;
    *size = static_cast<size_t>(result);
    return TlsResult::kOk;
  }

  bool Write(std::string_view plain, std::string* out) override {
    out_ = out;
    ERR_clear_error();
    while (!plain.empty()) {
      const int limit =
          static_cast<int>(std::min<size_t>(plain.size(), 1 << 30));
      const int result = SSL_write(ssl_.get(), plain.data(), limit);
      if (result <= 0) {
        Classify(result);
        return false;
      }
      plain.remove_prefix(static_cast<size_t>(result));
    }
    return true;
  }

  void Shutdown(std::string* out) override {
    out_ = out;
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }

  TlsFacts facts() const override {
    TlsFacts facts;
    facts.version = SSL_get_version(ssl_.get());
    if (const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_.get())) {
      facts.cipher = SSL_CIPHER_standard_name(cipher);
    }
    const uint8_t* alpn = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl_.get(), &alpn, &length);
    if (length > 0) {
      facts.alpn.assign(reinterpret_cast<const char*>(alpn), length);
    }
    facts.resumed = SSL_session_reused(ssl_.get());
    facts.not_after = not_after_;
    return facts;
  }

  bool refused() const override { return refused_; }
  const std::string& error() const override { return error_; }

  // The library's side.
  int TakeInput(char* to, int capacity) {
    const size_t size =
        std::min(input_.size(), static_cast<size_t>(std::max(capacity, 0)));
    if (size == 0) return 0;
    memcpy(to, input_.data(), size);
    input_.remove_prefix(size);
    return static_cast<int>(size);
  }
  void PutOutput(const char* from, int size) {
    out_->append(from, static_cast<size_t>(size));
  }
  ssl_verify_result_t VerifyShown(uint8_t* out_alert) {
    Verification found = Verify(*context_, ssl_.get(), name_);
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
           SSL_set_alpn_protos(ssl_.get(),
                               reinterpret_cast<const uint8_t*>(wire.data()),
                               static_cast<unsigned>(wire.size())) == 0;
  }

  TlsResult Classify(int result) {
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        return TlsResult::kWantInput;
      case SSL_ERROR_ZERO_RETURN:
        return TlsResult::kClosed;
      default:
        break;
    }
    const uint32_t code = TakeLibraryErrorCode();
    if (verify_failed_) return TlsResult::kVerifyFailed;
    error_ = code == 0 ? "TLS failed" : LibraryErrorText(code);
    if (const int alert = AlertOf(code)) {
      error_ = std::string("the upstream sent the alert \"") +
               SSL_alert_desc_string_long(alert) + "\"";
      refused_ = RefusesHandshake(alert) && !accepted_ &&
                 !SSL_in_init(ssl_.get()) &&
                 SSL_version(ssl_.get()) == TLS1_3_VERSION;
    }
    const int cause =
        ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    if (cause == SSL_R_WRONG_VERSION_NUMBER && SSL_in_init(ssl_.get())) {
      error_ = "the upstream does not speak TLS (" + error_ + ")";
    }
    return cause == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL
               ? TlsResult::kNoProtocol
               : TlsResult::kFailed;
  }

  const std::shared_ptr<const Context> context_;
  const std::string name_;
  bssl::UniquePtr<SSL> ssl_;
  std::string_view input_;
  std::string* out_ = nullptr;
  bool verify_failed_ = false;
  bool accepted_ = false;  // Data or a ticket came: the peer has finished, too.
  bool refused_ = false;
  int64_t not_after_ = 0;
  std::string session_key_;
  bssl::UniquePtr<SSL_SESSION> offered_;  // Until the handshake is over.
  std::string error_;
};

int WireRead(BIO* bio, char* to, int capacity) {
  BIO_clear_retry_flags(bio);
  const int size =
      static_cast<Engine*>(BIO_get_data(bio))->TakeInput(to, capacity);
  if (size > 0) return size;
  BIO_set_retry_read(bio);
  return -1;
}

int WireWrite(BIO* bio, const char* from, int size) {
  BIO_clear_retry_flags(bio);
  static_cast<Engine*>(BIO_get_data(bio))->PutOutput(from, size);
  return size;
}

long WireControl(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* WireMethod() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(0, "wire");
    BIO_meth_set_read(made, WireRead);
    BIO_meth_set_write(made, WireWrite);
    BIO_meth_set_ctrl(made, WireControl);
    return made;
  }();
  return method;
}

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
  // A fully qualified name's dot is neither in SNI nor in certificates.
  if (!plain_name.empty() && plain_name.back() == '.') plain_name.pop_back();
  auto engine = std::make_unique<Engine>(
      std::static_pointer_cast<const Context>(std::move(context)),
      std::move(plain_name), scope);
  if (!engine->Init(alpn)) return nullptr;
  return engine;
}

}  // namespace hotline::net
