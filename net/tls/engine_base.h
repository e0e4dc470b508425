// The common part of both roles' engines. Private to net/tls.
#ifndef HOTLINE_NET_TLS_ENGINE_BASE_H_
#define HOTLINE_NET_TLS_ENGINE_BASE_H_

#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "net/tls/context.h"
#include "net/tls/tls.h"
#include "net/tls/wire_bio.h"

namespace hotline::net {

// The reason code of a TLS error; 0 for other errors.
inline int SslReasonOf(uint32_t code) {
  return ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
}

// The peer's fatal alert that caused an error; 0: none.
inline int AlertOf(uint32_t code) {
  const int alert = SslReasonOf(code) - SSL_AD_REASON_OFFSET;
  return alert > 0 && alert < 256 ? alert : 0;
}

// `Interface`: TlsEngine or a class derived from it.
template <typename Interface>
class EngineBase : public Interface {
 public:
  void Feed(std::string_view ciphertext) override { wire_.input = ciphertext; }

  TlsResult Handshake(std::string* out) override {
    Begin(out);
    const int result = SSL_do_handshake(ssl());
    return result == 1 ? TlsResult::kOk : Classify(result);
  }

  TlsResult Read(char* buffer, size_t capacity, size_t* size,
                 std::string* out) override {
    *size = 0;
    // Skips a useless call into the library.
    if (wire_.input.empty() && SSL_pending(ssl()) == 0) {
      return TlsResult::kWantInput;
    }
    Begin(out);
    const int limit = static_cast<int>(std::min<size_t>(capacity, INT_MAX));
    const int result = SSL_read(ssl(), buffer, limit);
    if (result <= 0) return Classify(result);
    *size = static_cast<size_t>(result);
    return TlsResult::kOk;
  }

  bool Write(std::string_view plain, std::string* out) override {
    Begin(out);
    while (!plain.empty()) {
      const int limit =
          static_cast<int>(std::min<size_t>(plain.size(), 1 << 30));
      const int result = SSL_write(ssl(), plain.data(), limit);
      if (result <= 0) {
        Classify(result);
        return false;
      }
      plain.remove_prefix(static_cast<size_t>(result));
    }
    return true;
  }

  void Shutdown(std::string* out) override {
    Begin(out);
    SSL_shutdown(ssl());
    ERR_clear_error();
  }

  TlsFacts facts() const override {
    TlsFacts facts;
    facts.version = SSL_get_version(ssl());
    if (const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl())) {
      facts.cipher = SSL_CIPHER_standard_name(cipher);
    }
    const uint8_t* alpn = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl(), &alpn, &length);
    if (length > 0) {
      facts.alpn.assign(reinterpret_cast<const char*>(alpn), length);
    }
    facts.resumed = SSL_session_reused(ssl());
    facts.not_after = not_after_;
    return facts;
  }

  const std::string& error() const override { return error_; }

 protected:
  // False: out of memory.
  bool Open(SSL_CTX* ctx) {
    ssl_.reset(SSL_new(ctx));
    if (ssl_ == nullptr || !wire_.AttachTo(ssl())) return false;
    // Free the memory that only the handshake needs.
    SSL_set_shed_handshake_config(ssl(), 1);
    return true;
  }

  // Sets error_ from the library's error queue, and clears it.
  virtual TlsResult Fail() = 0;

  // "the upstream sent the alert "bad certificate"".
  static std::string AlertText(const char* peer, int alert) {
    return std::string(peer) + " sent the alert \"" +
           SSL_alert_desc_string_long(alert) + "\"";
  }

  SSL* ssl() const { return ssl_.get(); }

  int64_t not_after_ = 0;
  std::string error_;

 private:
  void Begin(std::string* out) {
    wire_.output = out;
    ERR_clear_error();
  }

  TlsResult Classify(int result) {
    switch (SSL_get_error(ssl(), result)) {
      case SSL_ERROR_WANT_READ:
        return TlsResult::kWantInput;
      case SSL_ERROR_ZERO_RETURN:
        return TlsResult::kClosed;
      default:
        return Fail();
    }
  }

  WireBio wire_;
  bssl::UniquePtr<SSL> ssl_;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_ENGINE_BASE_H_
