// TLS without a socket, in the client's role (server.h: the server's):
// ciphertext in, plaintext out, and the reverse.
//
//   auto context = TlsContext::Create(profile, authorities, sessions, 7200,
//                                     &faults);            // Null: faults.
//   auto engine = TlsEngine::Create(context, "example.com", {"h2"});
//   engine->Feed(received);
//   switch (engine->Handshake(&to_send)) {
//     case TlsResult::kOk:         // Write and Read from now on.
//     case TlsResult::kWantInput:  // Send to_send and wait for more.
//     default:                     // Send to_send (the alert), then close.
//   }
//
// This is the complete interface of the library that wraps BoringSSL. It is a
// shared library, because gRPC links another TLS library with the same symbol
// names into the process; nothing of either may be visible here. For the same
// reason it uses the standard library only.
//
// Invariants:
//   1. Every certificate is verified, also when a session is resumed: chain,
//      dates, purpose, name, and pins if configured.
//   2. No data is sent before the handshake is finished (no 0-RTT); see
//      docs/adr/0006-tls-profiles.md.
#ifndef HOTLINE_NET_TLS_TLS_H_
#define HOTLINE_NET_TLS_TLS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/tls/tls_profile.h"

namespace hotline::net {

// The version of the library behind this: "API 17".
std::string TlsLibraryVersion();

// Trusted certificate authorities. Immutable; thread-safe. Expensive to load
// and to keep in memory, so profiles share them.
class TlsAuthorities {
 public:
  virtual ~TlsAuthorities() = default;

  // Reads `ca_file` (PEM); empty: the system's. Null, with `error`, if it has
  // none.
  static std::shared_ptr<const TlsAuthorities> Load(const std::string& ca_file,
                                                    std::string* error);
  // Trusts no authority.
  static std::shared_ptr<const TlsAuthorities> None();
  // The file that Load("") tries first.
  static const char* SystemFile();
};

// A cache of resumable sessions for all contexts, bounded, with LRU eviction. A
// TLS 1.3 session is used once. Thread-safe.
class TlsSessions {
 public:
  // The most sessions of one context, name and scope.
  static constexpr size_t kMostAlike = 8;

  virtual ~TlsSessions() = default;
  // `capacity` 0: keeps none.
  static std::shared_ptr<TlsSessions> Create(size_t capacity);
  virtual void SetCapacity(size_t capacity) = 0;
  virtual size_t size() const = 0;
};

// A profile with its files loaded, shared by connections. Immutable, so that a
// reload creates another one; sessions of one are never offered by another.
// Thread-safe.
class TlsContext {
 public:
  virtual ~TlsContext() = default;

  // Null, with `faults`, if `profile` is invalid. Uses `authorities` instead of
  // the profile's ca_file. A session is resumed within `session_seconds` and
  // the upstream's own limit.
  static std::shared_ptr<const TlsContext> Create(
      const TlsProfile& profile,
      std::shared_ptr<const TlsAuthorities> authorities,
      std::shared_ptr<TlsSessions> sessions, uint32_t session_seconds,
      std::vector<TlsFault>* faults);

  virtual const TlsProfile& profile() const = 0;
};

// Returns the faults of a profile, its ca_file included. Reads its files.
std::vector<TlsFault> CheckTlsProfile(const TlsProfile& profile);

enum class TlsResult {
  kOk,
  kWantInput,     // All input was consumed; more is needed.
  kClosed,        // The peer has sent close_notify.
  kVerifyFailed,  // The peer's certificate is not acceptable.
  kNoProtocol,    // ALPN found no common protocol.
  kFailed,        // Anything else: not TLS, no common version, an alert…
};

struct TlsFacts {
  std::string version;  // "TLSv1.3".
  std::string cipher;   // Standard name: "TLS_AES_128_GCM_SHA256".
  std::string alpn;     // The negotiated protocol; empty: none.
  bool resumed = false;
  // The expiry of the peer's certificate, in seconds since 1970.
  int64_t not_after = 0;
};

// The client's side of one TLS connection; server.h has the server's, with the
// same functions. Not thread-safe. Owns no input or output buffer: input is
// used in place, and output is appended to a string of the caller's.
class TlsEngine {
 public:
  virtual ~TlsEngine() = default;

  // The certificate must be valid for `name`. A host name is also sent as SNI;
  // a numeric address is matched with the certificate's IP addresses and not
  // sent. `alpn` is offered in this order; may be empty. Sessions are shared
  // within the same context, name and `scope`. Null only if out of memory or if
  // `name` is not a valid name.
  static std::unique_ptr<TlsEngine> Create(
      std::shared_ptr<const TlsContext> context, const std::string& name,
      const std::vector<std::string>& alpn, std::string_view scope = {});

  // Passes ciphertext. It must stay in place until Handshake or Read has
  // returned kWantInput (all of it was consumed), kClosed or a failure.
  virtual void Feed(std::string_view ciphertext) = 0;

  // Continues the handshake; kOk: finished. Appends the bytes to send to the
  // peer to `out`, also on failure (the alert).
  virtual TlsResult Handshake(std::string* out) = 0;

  // REQUIRES: Handshake returned kOk. kOk: `*size` bytes were written to
  // `buffer`. `out` as above: the protocol sometimes requires a reply.
  virtual TlsResult Read(char* buffer, size_t capacity, size_t* size,
                         std::string* out) = 0;

  // REQUIRES: Handshake returned kOk. Appends the ciphertext of `plain` to
  // `out`. False: the connection is unusable.
  virtual bool Write(std::string_view plain, std::string* out) = 0;

  // Appends a close_notify alert: no data follows.
  virtual void Shutdown(std::string* out) = 0;

  // REQUIRES: Handshake returned kOk.
  virtual TlsFacts facts() const = 0;

  // After Read returned kFailed: the peer refused the handshake by an alert,
  // for lack of a client certificate for example. In TLS 1.3 that arrives after
  // our side has finished; the peer has not processed the data written by then.
  // False if that is uncertain.
  virtual bool refused() const = 0;

  // The message of the last kVerifyFailed, kNoProtocol or kFailed, with the
  // name of the peer's alert, if any.
  virtual const std::string& error() const = 0;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_TLS_H_
