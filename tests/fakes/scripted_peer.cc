#include "tests/fakes/scripted_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace hotline::testing {
namespace {

// Where the message at the beginning of `text` ends; npos: not there yet.
size_t RequestEnd(const std::string& text) {
  const size_t head = text.find("\r\n\r\n");
  if (head == std::string::npos) return head;
  const size_t body = head + 4;
  for (const char* name : {"\r\nContent-Length: ", "\r\ncontent-length: "}) {
    const size_t at = text.find(name);
    if (at == std::string::npos || at > head) continue;
    const size_t end =
        body + strtoul(text.c_str() + at + strlen(name), nullptr, 10);
    return text.size() >= end ? end : std::string::npos;
  }
  const size_t chunked = text.find("chunked\r\n");
  if (chunked == std::string::npos || chunked > head) return body;
  const size_t last = text.find("\r\n0\r\n\r\n", head);
  return last == std::string::npos ? last : last + 7;
}

}  // namespace

class ScriptedPeer::Impl {
 public:
  Impl(Options options, Script script);
  ~Impl();

  void Accept();
  void Serve(int fd, int index);

  void Configure();
  void NoteHandshake(SSL* ssl);

  // False: stopped.
  bool AwaitReadable(int fd) const {
    pollfd waits[2] = {{fd, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    while (poll(waits, 2, -1) < 0) {
    }
    return (waits[1].revents & POLLIN) == 0;
  }
  // False: stopped, or the client has closed.
  bool Pause(int fd, std::chrono::milliseconds length) const {
    pollfd waits[2] = {{fd, POLLRDHUP, 0}, {stop_fd_, POLLIN, 0}};
    return poll(waits, 2, static_cast<int>(length.count())) == 0;
  }
  bool AwaitWritable(int fd) const {
    pollfd waits[2] = {{fd, POLLOUT, 0}, {stop_fd_, POLLIN, 0}};
    while (poll(waits, 2, -1) < 0) {
    }
    return (waits[1].revents & POLLIN) == 0;
  }

  static int ChooseAlpn(SSL* ssl, const unsigned char** out,
                        unsigned char* out_length, const unsigned char*,
                        unsigned, void* self_pointer) {
    auto* self = static_cast<Impl*>(self_pointer);
    {
      std::lock_guard lock(self->mu_);
      const char* sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
      self->sni_ = sni == nullptr ? "" : sni;
    }
    if (self->options_.alpn.empty()) return SSL_TLSEXT_ERR_NOACK;
    *out = reinterpret_cast<const unsigned char*>(self->options_.alpn.data());
    *out_length = static_cast<unsigned char>(self->options_.alpn.size());
    return SSL_TLSEXT_ERR_OK;
  }

  const Options options_;
  const Script script_;
  SSL_CTX* ctx_ = nullptr;
  int listener_ = -1;
  int stop_fd_ = -1;
  int port_ = 0;
  std::atomic<int> accepted_{0};
  std::atomic<int> open_{0};
  std::atomic<int> resumed_{0};
  mutable std::mutex mu_;
  std::string sni_;
  std::string client_;
  struct Running {
    std::thread thread;
    std::atomic<bool> over{false};
  };
  std::list<Running> scripts_;  // Touched by the acceptor, then by ~Impl.
  std::thread acceptor_;
};

namespace {

class Connection final : public PeerConnection {
 public:
  using Ready = std::function<bool(int fd, bool readable)>;
  using Pausing = std::function<bool(int fd, std::chrono::milliseconds length)>;

  Connection(int fd, SSL* ssl, int index, Ready ready, Pausing pause)
      : fd_(fd),
        ssl_(ssl),
        index_(index),
        ready_(std::move(ready)),
        pause_(std::move(pause)) {}
  ~Connection() override {
    Close();
    if (ssl_ != nullptr) SSL_free(ssl_);
  }

  bool Handshake() {
    if (ssl_ == nullptr) return true;
    SSL_set_fd(ssl_, fd_);
    for (;;) {
      ERR_clear_error();
      const int result = SSL_accept(ssl_);
      if (result == 1) return true;
      const int error = SSL_get_error(ssl_, result);
      if (error == SSL_ERROR_WANT_READ && ready_(fd_, true)) continue;
      if (error == SSL_ERROR_WANT_WRITE && ready_(fd_, false)) continue;
      return false;
    }
  }

  std::string ReadRequest() override {
    for (;;) {
      const size_t end = RequestEnd(input_);
      if (end != std::string::npos) {
        std::string request = input_.substr(0, end);
        input_.erase(0, end);
        return request;
      }
      const std::string more = ReadSome();
      if (more.empty()) return "";
      input_ += more;
    }
  }

  std::string ReadSome() override {
    char buffer[65536];
    while (fd_ >= 0) {
      const long size = Receive(buffer, sizeof buffer);
      if (size > 0) return std::string(buffer, size);
      if (size == 0 || !ready_(fd_, true)) return "";
    }
    return "";
  }

  bool Write(std::string_view bytes) override {
    while (!bytes.empty() && fd_ >= 0) {
      const long size = Send(bytes);
      if (size > 0) {
        bytes.remove_prefix(size);
      } else if (size == 0 || !ready_(fd_, false)) {
        return false;
      }
    }
    return fd_ >= 0;
  }

  bool AwaitClose() override {
    while (!ReadSome().empty()) {
    }
    return closed_by_client_;
  }
  bool Pause(std::chrono::milliseconds length) override {
    return pause_(fd_, length);
  }

  void Close() override {
    if (fd_ >= 0 && ssl_ != nullptr) SSL_shutdown(ssl_);
    ERR_clear_error();
    CloseWithoutNotice();
  }
  void Reset() override {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    CloseWithoutNotice();
  }
  void CloseWithoutNotice() override {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  int index() const override { return index_; }

 private:
  // > 0: bytes; 0: the end; -1: wait.
  long Receive(char* buffer, size_t capacity) {
    if (ssl_ == nullptr) {
      const ssize_t size = recv(fd_, buffer, capacity, MSG_DONTWAIT);
      if (size >= 0) closed_by_client_ = size == 0;
      if (size < 0 && errno == ECONNRESET) closed_by_client_ = true;
      return size < 0 && errno != EAGAIN ? 0 : size;
    }
    ERR_clear_error();
    const int size = SSL_read(ssl_, buffer, static_cast<int>(capacity));
    if (size > 0) return size;
    if (SSL_get_error(ssl_, size) == SSL_ERROR_WANT_READ) return -1;
    closed_by_client_ = true;
    return 0;
  }
  long Send(std::string_view bytes) {
    if (ssl_ == nullptr) {
      const ssize_t size =
          send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      return size < 0 && errno != EAGAIN ? 0 : size;
    }
    ERR_clear_error();
    const int size =
        SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
    if (size > 0) return size;
    return SSL_get_error(ssl_, size) == SSL_ERROR_WANT_WRITE ? -1 : 0;
  }

  int fd_;
  SSL* const ssl_;
  const int index_;
  const Ready ready_;
  const Pausing pause_;
  std::string input_;
  bool closed_by_client_ = false;
};

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  ERR_print_errors_fp(stderr);
  std::abort();
}

// Null: another socket has the port.
std::optional<int> TryListen(const std::string& address, int* port) {
  const bool v6 = address.find(':') != std::string::npos;
  sockaddr_storage storage{};
  socklen_t length = v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (v6) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(static_cast<uint16_t>(*port));
    inet_pton(AF_INET6, address.c_str(), &in6->sin6_addr);
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(static_cast<uint16_t>(*port));
    inet_pton(AF_INET, address.c_str(), &in->sin_addr);
  }
  const int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto* generic = reinterpret_cast<sockaddr*>(&storage);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (fd < 0) Fail("socket");
  if (bind(fd, generic, length) != 0 || listen(fd, 1024) != 0) {
    if (errno != EADDRINUSE) Fail("listen");
    close(fd);
    return std::nullopt;
  }
  if (getsockname(fd, generic, &length) != 0) Fail("getsockname");
  *port = ntohs(v6 ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                   : reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
  return fd;
}

// A port that is free for other peers as well, at the addresses that tests put
// beside this one: the kernel chooses it for the one address only.
bool IsFreeElsewhere(int port, const std::string& address) {
  for (const char* other :
       {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.7"}) {
    if (address == other) continue;
    const auto fd = TryListen(other, &port);
    if (!fd.has_value()) return false;
    close(*fd);
  }
  return true;
}

int Listen(const std::string& address, int* port) {
  const int wanted = *port;
  for (int tries = 0; tries < 100; ++tries) {
    *port = wanted;
    const auto fd = TryListen(address, port);
    if (!fd.has_value()) continue;
    if (wanted != 0 || IsFreeElsewhere(*port, address)) return *fd;
    close(*fd);
  }
  Fail("no port is free");
}

}  // namespace

ScriptedPeer::Impl::Impl(Options options, Script script)
    : options_(std::move(options)), script_(std::move(script)) {
  // OpenSSL writes without MSG_NOSIGNAL.
  signal(SIGPIPE, SIG_IGN);
  port_ = options_.port;
  listener_ = Listen(options_.address, &port_);
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  if (!options_.tls.cert.empty()) Configure();
  acceptor_ = std::thread([this] { Accept(); });
}

void ScriptedPeer::Impl::Configure() {
  ctx_ = SSL_CTX_new(TLS_server_method());
  // Weak certificates are shown as well: refusing them is the client's part.
  SSL_CTX_set_security_level(ctx_, 0);
  SSL_CTX_set_mode(ctx_, SSL_MODE_ENABLE_PARTIAL_WRITE |
                             SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_alpn_select_cb(ctx_, ChooseAlpn, this);
  // Without it OpenSSL resumes no session of a client with a certificate.
  constexpr unsigned char kId[] = "peer";
  SSL_CTX_set_session_id_context(ctx_, kId, sizeof kId);
  if (!options_.tls_version.empty()) {
    const int version =
        options_.tls_version == "1.2" ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX_set_min_proto_version(ctx_, version);
    SSL_CTX_set_max_proto_version(ctx_, version);
  }
  if (!options_.client_ca.empty()) {
    SSL_CTX_set_verify(ctx_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       nullptr);
    if (SSL_CTX_load_verify_locations(ctx_, options_.client_ca.c_str(),
                                      nullptr) != 1) {
      Fail("client authority");
    }
  }
  if (SSL_CTX_use_certificate_chain_file(ctx_, options_.tls.cert.c_str()) !=
          1 ||
      SSL_CTX_use_PrivateKey_file(ctx_, options_.tls.key.c_str(),
                                  SSL_FILETYPE_PEM) != 1) {
    Fail("certificate");
  }
}

void ScriptedPeer::Impl::NoteHandshake(SSL* ssl) {
  if (ssl == nullptr) return;
  if (SSL_session_reused(ssl)) ++resumed_;
  X509* const certificate = SSL_get1_peer_certificate(ssl);
  if (certificate == nullptr) return;
  char name[256] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName,
                            name, sizeof name);
  X509_free(certificate);
  std::lock_guard lock(mu_);
  client_ = name;
}

ScriptedPeer::Impl::~Impl() {
  const uint64_t one = 1;
  if (write(stop_fd_, &one, sizeof one) != sizeof one) Fail("eventfd");
  acceptor_.join();
  for (Running& script : scripts_) script.thread.join();
  close(listener_);
  close(stop_fd_);
  if (ctx_ != nullptr) SSL_CTX_free(ctx_);
}

void ScriptedPeer::Impl::Accept() {
  while (AwaitReadable(listener_)) {
    const int fd =
        accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) continue;
    ++open_;
    const int index = accepted_++;
    Running& script = scripts_.emplace_back();
    script.thread = std::thread([this, fd, index, &script] {
      Serve(fd, index);
      script.over = true;
    });
    // Threads that are over take up room until they are joined.
    scripts_.remove_if([](Running& one) {
      if (!one.over) return false;
      one.thread.join();
      return true;
    });
  }
}

void ScriptedPeer::Impl::Serve(int fd, int index) {
  {
    SSL* const ssl = ctx_ == nullptr ? nullptr : SSL_new(ctx_);
    Connection connection(
        fd, ssl, index,
        [this](int on, bool readable) {
          return readable ? AwaitReadable(on) : AwaitWritable(on);
        },
        [this](int on, std::chrono::milliseconds length) {
          return Pause(on, length);
        });
    if (!options_.handshake) {
      AwaitReadable(stop_fd_);
    } else if (connection.Handshake()) {
      NoteHandshake(ssl);
      script_(connection);
    }
  }
  --open_;
}

ScriptedPeer::ScriptedPeer(Options options, Script script)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(script))) {}
ScriptedPeer::ScriptedPeer(Script script)
    : ScriptedPeer(Options(), std::move(script)) {}
ScriptedPeer::~ScriptedPeer() = default;

int ScriptedPeer::port() const { return impl_->port_; }
int ScriptedPeer::accepted() const { return impl_->accepted_; }
int ScriptedPeer::open() const { return impl_->open_; }

std::string ScriptedPeer::target() const {
  const std::string port = std::to_string(impl_->port_);
  if (impl_->ctx_ != nullptr) return "https://localhost:" + port;
  const std::string& address = impl_->options_.address;
  const bool v6 = address.find(':') != std::string::npos;
  return "http://" + (v6 ? "[" + address + "]" : address) + ":" + port;
}

std::string ScriptedPeer::last_sni() const {
  std::lock_guard lock(impl_->mu_);
  return impl_->sni_;
}

std::string ScriptedPeer::last_client() const {
  std::lock_guard lock(impl_->mu_);
  return impl_->client_;
}

int ScriptedPeer::resumed() const { return impl_->resumed_; }

ScriptedPeer::Script AlwaysAnswer(std::string answer) {
  return [answer = std::move(answer)](PeerConnection& connection) {
    while (!connection.ReadRequest().empty() && connection.Write(answer)) {
    }
  };
}

std::string OkResponse(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + std::string(body);
}

}  // namespace hotline::testing
