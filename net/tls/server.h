// The server's role: mutual TLS towards callers, by the rules of tls.h (no
// socket, standard library only, nothing of BoringSSL visible).
//
//   std::vector<TlsFault> faults;
//   TlsServerSlot slot(TlsServerContext::Create(pems, &faults));  // Not null.
//   …
//   auto engine = TlsServerEngine::Create(slot.current());
//   engine->Feed(received);
//   switch (engine->Handshake(&to_send)) {
//     case TlsResult::kOk:         // engine->TakePeerNames(): who calls.
//     case TlsResult::kWantInput:  // Send, and wait for more.
//     default:                     // Send (it has the alert), then close;
//   }                              // engine->failure(), engine->error().
//
// Invariants:
// 1. After Handshake has returned kOk, the caller has proved that it holds the
//    key of a certificate that one of the context's client authorities vouches
//    for, in date, meant for clients, without SHA-1 or RSA keys under 2048 bits;
//    ALPN is "h2"; the version is 1.2 or 1.3; the suite is forward secret and
//    authenticated (AEAD), as HTTP/2 demands.
// 2. No session is ever resumed: no ticket is issued, no session kept, and one
//    that is offered leads to a full handshake. So a caller is always verified
//    by the authorities that are in force when it connects, and no ticket key
//    has to be kept or exchanged. It costs a caller one full handshake for each
//    connection, and connections of gRPC are long.
// 3. An engine keeps the context that it was made with. An exchange in the slot
//    is seen by the engines that are made after it, and by no other.
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

// Texts in PEM.
struct TlsServerPems {
  std::string certificates;  // Ours, then those up to its authority.
  std::string key;           // Of the first one; not encrypted.
  std::string client_ca;     // Each is trusted as it is, a root or not.

  friend bool operator==(const TlsServerPems&, const TlsServerPems&) = default;
};

// Certificates in force. Immutable, thread-safe.
class TlsServerContext {
 public:
  virtual ~TlsServerContext() = default;

  // Null when something does not parse, does not fit together or is weak (RSA
  // under 2048 bits, EC under 256): told in `faults`, each with the key
  // "cert_file", "key_file" or "client_ca_file" and a text that goes on from the
  // name of that file. Dates are not judged: a certificate that has expired is
  // refused by callers, and to refuse it here would take down what else is
  // served.
  static std::shared_ptr<const TlsServerContext> Create(
      const TlsServerPems& pems, std::vector<TlsFault>* faults);

  // Of our certificate, in seconds since 1970.
  virtual int64_t not_before() const = 0;
  virtual int64_t not_after() const = 0;
};

// The context for new connections. Thread-safe.
class TlsServerSlot {
 public:
  explicit TlsServerSlot(std::shared_ptr<const TlsServerContext> context)
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

// Why a connection ended in an error. Stable: labels of a metric.
enum class TlsFailure {
  kNone,
  kNotTls,          // Plain HTTP, say.
  kVersion,         // No version in common.
  kSuite,           // No suite, group or signature algorithm in common.
  kNoH2,            // Its ALPN has no "h2", or there is none.
  kNoCertificate,   // It shows none.
  kExpired,         // Its certificate, or one in the chain.
  kNotYetValid,     // The same.
  kUnknownCa,       // Issued by an authority that is not ours.
  kBadCertificate,  // Another purpose, weak, does not parse, not its own…
  kAlert,           // It ended the connection by an alert: error() has which.
  kOther,
};
inline constexpr int kTlsFailures = static_cast<int>(TlsFailure::kOther) + 1;

// "tls_not_tls", …; "" for kNone.
std::string_view TlsFailureName(TlsFailure failure);

// What a caller's certificate calls it, byte for byte: there may be NULs and
// anything else in it.
struct TlsPeerNames {
  std::vector<std::string> uris;       // Subject alternative names, in order.
  std::vector<std::string> dns_names;  // The same.
  std::string common_name;             // The subject's first; in UTF-8.
};

// The server's side of one TLS connection; see TlsEngine. In Handshake,
// kVerifyFailed says that the caller's certificate is missing or not
// acceptable, kNoProtocol that it does not offer "h2".
//
// A caller with TLS 1.3 has finished its part before its certificate is
// verified, and may have sent requests by then. To have it read the alert,
// the connection must not be reset by unread data when it is closed.
class TlsServerEngine : public TlsEngine {
 public:
  // Null only when memory is short.
  static std::unique_ptr<TlsServerEngine> Create(
      std::shared_ptr<const TlsServerContext> context);

  // REQUIRES: Handshake said kOk. Once: the engine keeps nothing of it.
  virtual TlsPeerNames TakePeerNames() = 0;

  // After an error of Handshake, Read or Write; error() says more, for people.
  virtual TlsFailure failure() const = 0;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_SERVER_H_
