// TLS towards upstreams, without a socket: ciphertext in, plaintext out, and
// the other way round.
//
// This is the whole surface of the library that wraps BoringSSL. It is a shared
// library of its own, because gRPC brings another TLS library with the same
// symbol names into the process; nothing of either may be visible here. For the
// same reason it uses the standard library only.
//
// Every certificate is verified, always: chain, dates, purpose and name.
#ifndef HOTLINE_UPSTREAM_TLS_TLS_H_
#define HOTLINE_UPSTREAM_TLS_TLS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hotline::upstream {

// Authorities and settings that connections share. Immutable; to reload, make
// another one. Thread-safe.
class TlsContext {
 public:
  virtual ~TlsContext() = default;

  // Reads the authorities to be trusted from `ca_file` (PEM); empty: the
  // system's. Null when there are none to read, and `error` tells why.
  static std::shared_ptr<const TlsContext> Create(const std::string& ca_file,
                                                  std::string* error);
};

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
};

// The client's side of one TLS connection. Not thread-safe. Owns no input or
// output buffer: what was fed is used in place, and what is to be sent is
// appended to a string of the caller's.
class TlsEngine {
 public:
  virtual ~TlsEngine() = default;

  // `name` is what the certificate must be valid for. A host name is also sent
  // as SNI; the text of an IP address is matched with the certificate's IP
  // addresses and not sent. `alpn` is offered in this order; may be empty.
  // Null only when memory is short or `name` cannot be a name.
  static std::unique_ptr<TlsEngine> Create(
      std::shared_ptr<const TlsContext> context, const std::string& name,
      const std::vector<std::string>& alpn);

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

  // For people; of the last kVerifyFailed, kNoProtocol or kFailed.
  virtual const std::string& error() const = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_TLS_TLS_H_
