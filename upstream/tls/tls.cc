#include "upstream/tls/tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>
#include <openssl/stack.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include <algorithm>
#include <new>
#include <utility>

namespace hotline::upstream {
namespace {

constexpr char kSystemCaFile[] = "/etc/ssl/certs/ca-certificates.crt";
constexpr char kSystemCaDirectory[] = "/etc/ssl/certs";

// The oldest error in the library's queue, which is the cause; empties it.
uint32_t TakeLibraryErrorCode() {
  const uint32_t code = ERR_get_error();
  ERR_clear_error();
  return code;
}

std::string ErrorText(uint32_t code) {
  if (code == 0) return "";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "error " + std::to_string(code);
}

bool IsIpAddress(const std::string& name) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

// One list of certificates, kept in memory once: connections to one upstream
// show the same chain.
CRYPTO_BUFFER_POOL* CertificatePool() {
  static CRYPTO_BUFFER_POOL* const pool = CRYPTO_BUFFER_POOL_new();
  return pool;
}

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

ssl_verify_result_t VerifyPeer(SSL* ssl, uint8_t* out_alert);

class Context final : public TlsContext {
 public:
  Context() : store_(X509_STORE_new()) {}

  bool Init(const std::string& ca_file, std::string* error) {
    if (!LoadAuthorities(ca_file, error)) return false;
    ctx_.reset(SSL_CTX_new(TLS_with_buffers_method()));
    if (ctx_ == nullptr) {
      *error = ErrorText(TakeLibraryErrorCode());
      return false;
    }
    SSL_CTX_set_min_proto_version(ctx_.get(), TLS1_2_VERSION);
    SSL_CTX_set0_buffer_pool(ctx_.get(), CertificatePool());
    SSL_CTX_set_session_cache_mode(ctx_.get(), SSL_SESS_CACHE_OFF);
    // So that whoever dials can tell what the peer chose instead.
    SSL_CTX_set_allow_unknown_alpn_protos(ctx_.get(), 1);
    SSL_CTX_set_custom_verify(ctx_.get(), SSL_VERIFY_PEER, VerifyPeer);
    return true;
  }

  SSL_CTX* ctx() const { return ctx_.get(); }
  X509_STORE* store() const { return store_.get(); }

 private:
  bool LoadAuthorities(const std::string& ca_file, std::string* error) {
    const bool system = ca_file.empty();
    const char* path = system ? kSystemCaFile : ca_file.c_str();
    const int loaded = store_ == nullptr ? 0
                                         : X509_STORE_load_locations(
                                               store_.get(), path, nullptr);
    // An image may have the directory alone; what is in it is read on demand.
    const bool directory =
        system && store_ != nullptr &&
        X509_STORE_load_locations(store_.get(), nullptr, kSystemCaDirectory);
    const std::string reason = ErrorText(TakeLibraryErrorCode());
    if (loaded || directory) return true;
    *error = std::string("no authorities can be read from ") + path + ": " +
             (reason.empty() ? "unknown error" : reason);
    return false;
  }

  bssl::UniquePtr<X509_STORE> store_;
  bssl::UniquePtr<SSL_CTX> ctx_;
};

const BIO_METHOD* WireMethod();

class Engine final : public TlsEngine {
 public:
  Engine(std::shared_ptr<const Context> context, std::string name)
      : context_(std::move(context)), name_(std::move(name)) {}

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
    return OfferAlpn(alpn);
  }

  void Feed(std::string_view ciphertext) override { input_ = ciphertext; }

  TlsResult Handshake(std::string* out) override {
    out_ = out;
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    return result == 1 ? TlsResult::kOk : Classify(result);
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
    return facts;
  }

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
  ssl_verify_result_t Verify(uint8_t* out_alert);

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
    error_ = code == 0 ? "TLS failed" : ErrorText(code);
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
  std::string error_;
};

// Prepares the check of `leaf` for `name`, its purpose included.
bool SetUpVerification(X509_STORE_CTX* check, const std::string& name) {
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(check);
  if (!X509_STORE_CTX_set_default(check, "ssl_server")) return false;
  X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_TRUSTED_FIRST);
  if (IsIpAddress(name)) {
    return X509_VERIFY_PARAM_set1_ip_asc(param, name.c_str()) == 1;
  }
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return X509_VERIFY_PARAM_set1_host(param, name.data(), name.size()) == 1;
}

ssl_verify_result_t Engine::Verify(uint8_t* out_alert) {
  verify_failed_ = true;
  *out_alert = SSL_AD_INTERNAL_ERROR;
  error_ = "out of memory";
  const STACK_OF(CRYPTO_BUFFER)* shown = SSL_get0_peer_certificates(ssl_.get());
  bssl::UniquePtr<STACK_OF(X509)> chain(sk_X509_new_null());
  const size_t count = shown == nullptr ? 0 : sk_CRYPTO_BUFFER_num(shown);
  for (size_t i = 0; i < count && chain != nullptr; ++i) {
    bssl::UniquePtr<X509> certificate(
        X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(shown, i)));
    if (certificate == nullptr ||
        !bssl::PushToStack(chain.get(), std::move(certificate))) {
      *out_alert = SSL_AD_DECODE_ERROR;
      error_ = "a certificate that does not parse";
      return ssl_verify_invalid;
    }
  }
  bssl::UniquePtr<X509_STORE_CTX> check(X509_STORE_CTX_new());
  if (count == 0 || chain == nullptr || check == nullptr ||
      !X509_STORE_CTX_init(check.get(), context_->store(),
                           sk_X509_value(chain.get(), 0), chain.get()) ||
      !SetUpVerification(check.get(), name_)) {
    return ssl_verify_invalid;
  }
  if (X509_verify_cert(check.get()) == 1) {
    verify_failed_ = false;
    error_.clear();
    return ssl_verify_ok;
  }
  const int code = X509_STORE_CTX_get_error(check.get());
  *out_alert = AlertFor(code);
  error_ = X509_verify_cert_error_string(code);
  return ssl_verify_invalid;
}

ssl_verify_result_t VerifyPeer(SSL* ssl, uint8_t* out_alert) {
  return static_cast<Engine*>(SSL_get_app_data(ssl))->Verify(out_alert);
}

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

std::shared_ptr<const TlsContext> TlsContext::Create(const std::string& ca_file,
                                                     std::string* error) {
  auto context = std::make_shared<Context>();
  if (!context->Init(ca_file, error)) return nullptr;
  return context;
}

std::unique_ptr<TlsEngine> TlsEngine::Create(
    std::shared_ptr<const TlsContext> context, const std::string& name,
    const std::vector<std::string>& alpn) {
  std::string plain_name = name;
  // A fully qualified name's dot is neither in SNI nor in certificates.
  if (!plain_name.empty() && plain_name.back() == '.') plain_name.pop_back();
  auto engine = std::make_unique<Engine>(
      std::static_pointer_cast<const Context>(std::move(context)),
      std::move(plain_name));
  if (!engine->Init(alpn)) return nullptr;
  return engine;
}

}  // namespace hotline::upstream
