// A TLS client in memory for tests of the server's role. It uses BoringSSL
// directly, so it can do what Hotline's own client never does.
#ifndef HOTLINE_TESTS_NET_TLS_TLS_CALLER_H_
#define HOTLINE_TESTS_NET_TLS_TLS_CALLER_H_

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/fakes/test_certs.h"

namespace hotline::net {

struct CallerOptions {
  uint16_t min = TLS1_2_VERSION;
  uint16_t max = TLS1_3_VERSION;
  std::string alpn = "\x02h2";   // As on the wire; empty: no such extension.
  testing::CertFiles cert = {};  // Empty: none.
  std::string ciphers = {};      // Of TLS 1.2; empty: the library's.
  SSL_SESSION* session = nullptr;
};

class TlsCaller {
 public:
  explicit TlsCaller(const CallerOptions& options)
      : ctx_(SSL_CTX_new(TLS_method())) {
    SSL_CTX* const ctx = ctx_.get();
    SSL_CTX_set_min_proto_version(ctx, options.min);
    SSL_CTX_set_max_proto_version(ctx, options.max);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(ctx, [](SSL* ssl, SSL_SESSION* session) {
      auto* const self = static_cast<TlsCaller*>(SSL_get_app_data(ssl));
      self->session_.reset(session);
      return 1;
    });
    if (!options.cert.cert.empty()) {
      EXPECT_EQ(1, SSL_CTX_use_certificate_chain_file(
                       ctx, options.cert.cert.c_str()));
      EXPECT_EQ(1, SSL_CTX_use_PrivateKey_file(ctx, options.cert.key.c_str(),
                                               SSL_FILETYPE_PEM));
    }
    if (!options.ciphers.empty()) {
      EXPECT_EQ(1,
                SSL_CTX_set_strict_cipher_list(ctx, options.ciphers.c_str()));
    }
    ssl_.reset(SSL_new(ctx));
    SSL_set_app_data(ssl_.get(), this);
    SSL_set_alpn_protos(ssl_.get(),
                        reinterpret_cast<const uint8_t*>(options.alpn.data()),
                        options.alpn.size());
    if (options.session != nullptr) {
      SSL_set_session(ssl_.get(), options.session);
    }
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl_.get());
    ERR_clear_error();
  }

  // Processes bytes from the server; returns the bytes to send to it.
  std::string Step(std::string_view in) {
    BIO* const from = SSL_get_rbio(ssl_.get());
    if (!in.empty()) BIO_write(from, in.data(), static_cast<int>(in.size()));
    ERR_clear_error();
    if (SSL_do_handshake(ssl_.get()) == 1) ReadAll();
    NoteError();
    return Output();
  }

  std::string Write(std::string_view plain) {
    while (!plain.empty()) {
      const int size =
          SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size()));
      if (size <= 0) break;
      plain.remove_prefix(static_cast<size_t>(size));
    }
    return Output();
  }

  std::string Shutdown() {
    SSL_shutdown(ssl_.get());
    return Output();
  }

  SSL* ssl() const { return ssl_.get(); }
  SSL_CTX* ctx() const { return ctx_.get(); }
  // The fatal alert received from the server; 0: none.
  int alert() const { return alert_; }
  bool connected() const { return !SSL_in_init(ssl_.get()) && alert_ == 0; }
  const std::string& received() const { return received_; }
  bool closed() const { return closed_; }  // close_notify was received.
  // The last session that the server issued; null: none.
  SSL_SESSION* session() const { return session_.get(); }
  // The common name in the server's certificate.
  std::string ServersName() const {
    char name[100] = "";
    const bssl::UniquePtr<X509> shown(SSL_get_peer_certificate(ssl_.get()));
    if (shown == nullptr) return "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(shown.get()),
                              NID_commonName, name, sizeof name);
    return name;
  }

 private:
  void ReadAll() {
    char buffer[16384];
    int size;
    while ((size = SSL_read(ssl_.get(), buffer, sizeof buffer)) > 0) {
      received_.append(buffer, static_cast<size_t>(size));
    }
    closed_ = SSL_get_error(ssl_.get(), size) == SSL_ERROR_ZERO_RETURN;
  }
  void NoteError() {
    const uint32_t code = ERR_get_error();
    ERR_clear_error();
    const int reason = ERR_GET_REASON(code);
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET) {
      alert_ = reason - SSL_AD_REASON_OFFSET;
    }
  }
  std::string Output() {
    BIO* const to = SSL_get_wbio(ssl_.get());
    const uint8_t* data = nullptr;
    size_t size = 0;
    BIO_mem_contents(to, &data, &size);
    std::string bytes(reinterpret_cast<const char*>(data), size);
    BIO_reset(to);
    return bytes;
  }

  bssl::UniquePtr<SSL_CTX> ctx_;
  bssl::UniquePtr<SSL_SESSION> session_;
  bssl::UniquePtr<SSL> ssl_;
  std::string received_;
  bool closed_ = false;
  int alert_ = 0;
};

}  // namespace hotline::net

#endif  // HOTLINE_TESTS_NET_TLS_TLS_CALLER_H_
