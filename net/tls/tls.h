// TLS without a socket, towards upstreams (server.h: towards callers):
// ciphertext in, plaintext out, and the other way round.
//
// This is the whole surface of the library that wraps BoringSSL. It is a shared
// library of its own, because gRPC brings another TLS library with the same
// symbol names into the process; nothing of either may be visible here. For the
// same reason it uses the standard library only.
//
// Every certificate is verified, always: chain, dates, purpose, name, and pins
// where there are any; also when a session is resumed. Nothing is ever sent
// before the handshake is finished (0-RTT): docs/adr/0006-tls-profiles.md.
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

// Whom to trust. Immutable, thread-safe; costly to load and to keep, so that
// profiles share it.
class TlsAuthorities {
 public:
  virtual ~TlsAuthorities() = default;

  // From `ca_file` (PEM); empty: the system's. Null when there are none to
  // read, and `error` tells why.
  static std::shared_ptr<const TlsAuthorities> Load(const std::string& ca_file,
                                                    std::string* error);
  // Nobody.
  static std::shared_ptr<const TlsAuthorities> Nobody();
  // The file that Load("") reads first.
  static const char* SystemFile();
};

// Sessions to be resumed, for all contexts: bounded, the least recently used
// leave first. Sessions of TLS 1.3 are used once. Thread-safe.
class TlsSessions {
 public:
  // Of one name and scope of one context.
  static constexpr size_t kMostAlike = 8;

  virtual ~TlsSessions() = default;
  // `capacity`: 0 keeps none.
  static std::shared_ptr<TlsSessions> Create(size_t capacity);
  virtual void SetCapacity(size_t capacity) = 0;
  virtual size_t size() const = 0;
};

// A profile that connections share, with its files read. Immutable; to reload,
// make another one. Sessions of one are never offered by another. Thread-safe.
class TlsContext {
 public:
  virtual ~TlsContext() = default;

  // Null when something is wrong with `profile`, told in `faults`. Its ca_file
  // is not looked at: `authorities` are those. A session is resumed for
  // `session_seconds` at most, and for as long as the upstream says.
  static std::shared_ptr<const TlsContext> Create(
      const TlsProfile& profile,
      std::shared_ptr<const TlsAuthorities> authorities,
      std::shared_ptr<TlsSessions> sessions, uint32_t session_seconds,
      std::vector<TlsFault>* faults);

  virtual const TlsProfile& profile() const = 0;
};

// What is wrong with a profile, its ca_file included. Reads its files.
std::vector<TlsFault> CheckTlsProfile(const TlsProfile& profile);

enum class TlsResult {
  kOk,
  kWantInput,     // All input is used up; more is needed.
  kClosed,        // The peer has said, in TLS, that it sends no more.
  kVerifyFailed,  // Its certificate is not acceptable.
  kNoProtocol,    // It speaks none of the protocols offered by ALPN.
  kFailed,        // Anything else: not TLS, no common version, an alert…
};

struct TlsFacts {
  std::string version;  // "TLSv1.3".
  std::string cipher;   // Standard name: "TLS_AES_128_GCM_SHA256".
  std::string alpn;     // What the peer chose; empty: nothing.
  bool resumed = false;
  // Of the peer's certificate, in seconds since 1970.
  int64_t not_after = 0;
};

// The client's side of one TLS connection; server.h has the server's, behind
// the same functions. Not thread-safe. Owns no input or output buffer: what was
// fed is used in place, and what is to be sent is appended to a string of the
// caller's.
class TlsEngine {
 public:
  virtual ~TlsEngine() = default;

  // `name` is what the certificate must be valid for. A host name is also sent
  // as SNI; the text of an IP address is matched with the certificate's IP
  // addresses and not sent. `alpn` is offered in this order; may be empty.
  // Sessions are shared within `scope` (and name, and context). Null only when
  // memory is short or `name` cannot be a name.
  static std::unique_ptr<TlsEngine> Create(
      std::shared_ptr<const TlsContext> context, const std::string& name,
      const std::vector<std::string>& alpn, std::string_view scope = {});

  // Hands over ciphertext. It must stay in place until Handshake or Read has
  // answered kWantInput (by then all of it is used) or an end.
  virtual void Feed(std::string_view ciphertext) = 0;

  // Goes on with the handshake; kOk when it is finished. What is to be sent to
  // the peer is appended to `out`, also on failure (the alert).
  virtual TlsResult Handshake(std::string* out) = 0;

  // REQUIRES: Handshake said kOk. kOk: `*size` is what was written to `buffer`.
  // `out`: as above, the protocol sometimes wants an answer.
  virtual TlsResult Read(char* buffer, size_t capacity, size_t* size,
                         std::string* out) = 0;

  // REQUIRES: Handshake said kOk. Appends the ciphertext of `plain` to `out`.
  // False: the connection is beyond use.
  virtual bool Write(std::string_view plain, std::string* out) = 0;

  // Appends the notice that nothing more will be sent.
  virtual void Shutdown(std::string* out) = 0;

  // REQUIRES: Handshake said kOk.
  virtual TlsFacts facts() const = 0;

  // After Read said kFailed: the peer had not finished the handshake, and says
  // by an alert that it will not (it wants a client certificate, say). In TLS
  // 1.3 that comes after our side's end of it; what was written by then was not
  // looked at. False also where that is not certain.
  virtual bool refused() const = 0;

  // For people; of the last kVerifyFailed, kNoProtocol or kFailed. Has the name
  // of the peer's alert, where there was one.
  virtual const std::string& error() const = 0;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_TLS_H_
