// A server that does what a test tells it to, over plain TCP or TLS.
//
// Each accepted connection runs the script in a thread of its own; what the
// script does (answer, answer by halves, hang up, reset, say nothing) is the
// peer's whole behaviour. TLS here is OpenSSL's, linked statically, while the
// code under test uses BoringSSL.
#ifndef HOTLINE_TESTS_FAKES_SCRIPTED_PEER_H_
#define HOTLINE_TESTS_FAKES_SCRIPTED_PEER_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tests/fakes/test_certs.h"

namespace hotline::testing {

// One accepted connection, as its script sees it.
class PeerConnection {
 public:
  virtual ~PeerConnection() = default;

  // Reads a request with its body (by Content-Length or chunks). Empty when the
  // client closed the connection first.
  virtual std::string ReadRequest() = 0;
  // Reads whatever comes next; empty at the end.
  virtual std::string ReadSome() = 0;
  virtual bool Write(std::string_view bytes) = 0;
  // Reads until the client closes. True: it did; false: the peer is stopped.
  virtual bool AwaitClose() = 0;
  // Delays the script. False: cut short, because the client closed or the peer
  // is stopped.
  virtual bool Pause(std::chrono::milliseconds length) = 0;
  // Closes with FIN (and close_notify), or with RST; or FIN without the notice.
  virtual void Close() = 0;
  virtual void Reset() = 0;
  virtual void CloseWithoutNotice() = 0;
  // Counted from 0 in the order of accepting.
  virtual int index() const = 0;
};

class ScriptedPeer {
 public:
  using Script = std::function<void(PeerConnection&)>;

  struct Options {
    CertFiles tls;                  // Empty: plain TCP.
    std::string alpn = "http/1.1";  // What it chooses; empty: none.
    std::string address = "127.0.0.1";
    int port = 0;                  // 0: a free one.
    bool handshake = true;         // False: accepts, and never handshakes.
    std::string tls_version = "";  // "1.2", "1.3": that alone; empty: both.
    // Asks for a client certificate by this authority, and insists.
    std::string client_ca = "";
  };

  ScriptedPeer(Options options, Script script);
  explicit ScriptedPeer(Script script);
  ~ScriptedPeer();  // Closes everything and joins.

  int port() const;
  // "http://127.0.0.1:port" or "https://localhost:port".
  std::string target() const;
  int accepted() const;
  // How many connections are open, scripts that have not returned.
  int open() const;
  // The server name that the last client sent; TLS only.
  std::string last_sni() const;
  // The common name in the last client's certificate; TLS only.
  std::string last_client() const;
  // How many handshakes resumed a session.
  int resumed() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Answers every request with `answer` until the client goes.
ScriptedPeer::Script AlwaysAnswer(std::string answer);

// "HTTP/1.1 200 OK" with this body and its length.
std::string OkResponse(std::string_view body);

}  // namespace hotline::testing

#endif  // HOTLINE_TESTS_FAKES_SCRIPTED_PEER_H_
