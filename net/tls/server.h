// The server's role: mutual TLS towards callers. The rules of tls.h hold: no
// socket, standard library only, nothing of BoringSSL visible.
//
//   std::vector<TlsFault> faults;
//   auto context = TlsServerContext::Create(pems, &faults);  // Null: faults.
//   TlsServerContextHolder holder(context);
//   ...
//   auto engine = TlsServerEngine::Create(holder.current());
//   engine->Feed(received);
//   switch (engine->Handshake(&to_send)) {
//     case TlsResult::kOk:         // engine->TakePeerNames() identifies it.
//     case TlsResult::kWantInput:  // Send to_send and wait for more.
//     default:                     // Send to_send (the alert), then close;
//   }                              // count engine->failure(), log error().
//
// Invariants:
// 1. After Handshake has returned kOk, the caller has proved possession of the
//    key of a certificate issued by one of the context's client CAs, within its
//    dates, valid for clients, with no SHA-1 signature and no RSA key below
//    2048 bits in its chain. ALPN is "h2", the version 1.2 or 1.3, the suite
//    AEAD with forward secrecy, as HTTP/2 demands.
// 2. No session is resumed. No ticket is issued, no session is stored, and an
//    offered one leads to a full handshake. So every connection is verified
//    against the client CAs in force when it begins, and there are no ticket
//    keys to rotate. The price is a full handshake per connection; gRPC keeps
//    its connections open.
// 3. An engine keeps the context it was created with. Exchange affects engines
//    created afterwards only. A certificate that expires while its connection
//    is open does not close it.
#ifndef HOTLINE_NET_TLS_SERVER_H_
#define HOTLINE_NET_TLS_SERVER_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/tls/tls.h"

namespace hotline::net {

// PEM texts.
struct TlsServerPems {
  std::string certificates;  // The server's, followed by intermediates.
  std::string key;           // Of the first certificate; not encrypted.
  std::string client_ca;     // Each is a trust anchor, self-signed or not.

  friend bool operator==(const TlsServerPems&, const TlsServerPems&) = default;
};

// Server certificate, key and client CAs. Immutable, thread-safe.
class TlsServerContext {
 public:
  virtual ~TlsServerContext() = default;

  // Null when a text does not parse, the key does not match the certificate, or
  // the key is weak (RSA below 2048 bits, EC below 256). Each fault has the key
  // "cert_file", "key_file" or "client_ca_file" and a text that continues a
  // sentence begun with the file's name.
  //
  // Dates are reported, not checked: callers refuse an expired certificate
  // anyway, and failing here would take down the other listeners too.
  static std::shared_ptr<const TlsServerContext> Create(
      const TlsServerPems& pems, std::vector<TlsFault>* faults);

  // Validity of the server's certificate, in seconds since 1970.
  virtual int64_t not_before() const = 0;
  virtual int64_t not_after() const = 0;
};

// The context for new connections. Thread-safe.
class TlsServerContextHolder {
 public:
  // REQUIRES: `context` is not null.
  explicit TlsServerContextHolder(
      std::shared_ptr<const TlsServerContext> context)
      : context_(std::move(context)) {}

  std::shared_ptr<const TlsServerContext> current() const {
    const std::lock_guard lock(mu_);
    return context_;
  }
  // REQUIRES: `context` is not null.
  void Exchange(std::shared_ptr<const TlsServerContext> context) {
    const std::lock_guard lock(mu_);
    context_.swap(context);
  }

 private:
  mutable std::mutex mu_;
  std::shared_ptr<const TlsServerContext> context_;  // Guarded by mu_.
};

// Why a connection failed.
enum class TlsFailure {
  kNone,
  kNotTls,          // For example plain HTTP.
  kVersion,         // No common version.
  kSuite,           // No common suite, group or signature algorithm.
  kNoH2,            // ALPN without "h2", or no ALPN.
  kNoCertificate,   // None was sent.
  kExpired,         // The caller's certificate, or one in its chain.
  kNotYetValid,     // Likewise.
  kUnknownCa,       // Not issued by one of the client CAs.
  kBadCertificate,  // Wrong purpose, weak, malformed, key not proved, ...
  kAlert,           // The caller sent a fatal alert, named in error().
  kOther,
};
inline constexpr int kTlsFailures = static_cast<int>(TlsFailure::kOther) + 1;

// The metric label: "tls_not_tls", ...; "" for kNone.
std::string_view TlsFailureName(TlsFailure failure);

// Names in a verified certificate, byte for byte: they may contain NULs and
// control characters.
struct TlsPeerNames {
  std::vector<std::string> uris;       // Subject alternative names, in order.
  std::vector<std::string> dns_names;  // Likewise.
  std::string common_name;             // The subject's first, in UTF-8.
};

// The server's side of one TLS connection; see TlsEngine. Handshake returns
// kVerifyFailed when the caller's certificate is missing or not acceptable, and
// kNoProtocol when the caller does not offer "h2".
//
// A TLS 1.3 caller may send requests before its certificate is verified. Unread
// data makes close() reset the connection, and the caller may lose the alert:
// read until the end, for a bounded time, before closing.
class TlsServerEngine : public TlsEngine {
 public:
  // Null only when memory is short.
  static std::unique_ptr<TlsServerEngine> Create(
      std::shared_ptr<const TlsServerContext> context);

  // REQUIRES: Handshake returned kOk. Call once: the engine keeps no copy.
  virtual TlsPeerNames TakePeerNames() = 0;

  // The cause of an error of Handshake, Read or Write; error() has the text.
  virtual TlsFailure failure() const = 0;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_SERVER_H_
