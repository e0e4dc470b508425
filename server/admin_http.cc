#include "server/admin_http.h"

#include <pthread.h>

#include <array>
#include <charconv>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/read.hpp"
#include "boost/beast/http/string_body.hpp"
#include "boost/beast/http/write.hpp"
#include "server/metrics.h"

namespace hotline::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Response = http::response<http::string_body>;

constexpr size_t kMaxHeaderBytes = 8192;
constexpr std::string_view kText = "text/plain; charset=utf-8";

bool IsLoopback(const asio::ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6())
        .is_loopback();
  }
  return address.is_loopback();
}

// "host:port" or "[host]:port", numeric.
std::optional<tcp::endpoint> ParseEndpoint(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool brackets = host.starts_with('[') && host.ends_with(']');
  if (brackets) host = host.substr(1, host.size() - 2);
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  error_code error;
  const auto address = asio::ip::make_address(std::string(host), error);
  if (error || address.is_v6() != brackets) return std::nullopt;
  return tcp::endpoint(address, port);
}

// A page elsewhere can make a browser on this machine ask us under a name of
// its own, and read the answer: the status page answers to "localhost" and to
// numbers only.
bool IsLocalName(std::string_view host) {
  if (const size_t colon = host.rfind(':');
      colon != std::string_view::npos && !host.ends_with(']')) {
    host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  if (host.empty() || host == "localhost") return true;
  error_code error;
  asio::ip::make_address(std::string(host), error);
  return !error;
}

// The answer's text, for HEAD too; writing leaves the body out there.
struct Page {
  http::status status = http::status::ok;
  std::string_view type = kText;
  std::string body;
};

Page Readiness(const std::vector<std::string>& reasons) {
  if (reasons.empty()) return {.body = "ok\n"};
  return {.status = http::status::service_unavailable,
          .body = absl::StrCat(
              "not ready: ", absl::StrJoin(reasons, "\nnot ready: "), "\n")};
}

class Session;

// What the sessions share; of the listener's thread alone.
struct Shared {
  const AdminHttpOptions options;
  std::set<Session*> sessions;

  Page Answer(std::string_view path, bool local) const {
    if (path == "/metrics") {
      return {.type = Metrics::kContentType, .body = options.metrics()};
    }
    if (path == "/healthz") return {.body = "ok\n"};
    if (path == "/readyz") return Readiness(options.not_ready());
    if (path == "/" && local) return {.body = options.status_page()};
    return {.status = http::status::not_found, .body = "not found\n"};
  }
};

// One connection: wait, read, answer, and again. Each step has its deadline.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, std::shared_ptr<Shared> shared)
      : socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        shared_(std::move(shared)) {
    shared_->sessions.insert(this);
    error_code error;
    const auto remote = socket_.remote_endpoint(error);
    from_loopback_ = !error && IsLoopback(remote.address());
    socket_.set_option(tcp::no_delay(true), error);
  }
  ~Session() { shared_->sessions.erase(this); }

  void Start() { Await(shared_->options.read_timeout); }

  void Close() {
    error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
  }

 private:
  // Closes the connection when the step under way takes longer.
  void SetDeadline(Duration length) {
    timer_.expires_after(
        std::chrono::duration_cast<asio::steady_timer::duration>(length));
    timer_.async_wait([weak = weak_from_this()](error_code error) {
      const auto self = weak.lock();
      if (!error && self != nullptr) self->GiveUp();
    });
  }

  // A reset drops at once what a peer that does not read left in our buffers.
  void GiveUp() {
    error_code ignored;
    socket_.set_option(tcp::socket::linger(true, 0), ignored);
    Close();
  }

  // A request may come, within `patience`.
  void Await(Duration patience) {
    if (buffer_.size() > 0) return Read();
    SetDeadline(patience);
    socket_.async_wait(tcp::socket::wait_read,
                       [self = shared_from_this()](error_code error) {
                         if (error) return self->Close();
                         self->Read();
                       });
  }

  void Read() {
    SetDeadline(shared_->options.read_timeout);
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(0);
    http::async_read(socket_, buffer_, *parser_,
                     [self = shared_from_this()](error_code error, size_t) {
                       self->OnRequest(error);
                     });
  }

  void OnRequest(error_code error) {
    ++requests_;
    if (error == http::error::header_limit ||
        error == http::error::buffer_overflow) {
      return Refuse(http::status::request_header_fields_too_large);
    }
    if (error == http::error::body_limit ||
        error == http::error::unexpected_body) {
      return Refuse(http::status::payload_too_large);
    }
    if (error == http::error::end_of_stream ||
        error == http::error::partial_message) {
      return Close();
    }
    if (error.category() == error_code(http::error::bad_method).category()) {
      return Refuse(http::status::bad_request);
    }
    if (error) return Close();

    const auto& request = parser_->get();
    const bool keep = request.keep_alive() &&
                      requests_ < shared_->options.max_requests_per_connection;
    if (request.method() != http::verb::get &&
        request.method() != http::verb::head) {
      Page page{.status = http::status::method_not_allowed,
                .body = "only GET and HEAD\n"};
      return Write(std::move(page), request.version(), keep, false);
    }
    const std::string_view target(request.target().data(),
                                  request.target().size());
    const auto host = request[http::field::host];
    const bool local =
        from_loopback_ && IsLocalName({host.data(), host.size()});
    Write(shared_->Answer(target.substr(0, target.find('?')), local),
          request.version(), keep, request.method() == http::verb::head);
  }

  // The request made no sense, so what follows it on the connection cannot.
  void Refuse(http::status status) {
    const auto reason = http::obsolete_reason(status);
    Write(
        {.status = status,
         .body = absl::StrCat(std::string(reason.data(), reason.size()), "\n")},
        11, false, false);
  }

  void Write(Page page, unsigned version, bool keep, bool head) {
    response_ = Response(page.status, version);
    response_.set(http::field::content_type,
                  beast::string_view(page.type.data(), page.type.size()));
    response_.set(http::field::cache_control, "no-store");
    response_.set("X-Content-Type-Options", "nosniff");
    if (page.status == http::status::method_not_allowed) {
      response_.set(http::field::allow, "GET, HEAD");
    }
    response_.keep_alive(keep);
    response_.content_length(page.body.size());
    if (!head) response_.body() = std::move(page.body);

    SetDeadline(shared_->options.write_timeout);
    const auto done = [self = shared_from_this(), keep](error_code error,
                                                        size_t) {
      if (error) return self->Close();
      if (!keep) return self->Linger();
      self->Await(self->shared_->options.idle_timeout);
    };
    serializer_.emplace(response_);
    if (head) {
      http::async_write_header(socket_, *serializer_, done);
    } else {
      http::async_write(socket_, *serializer_, done);
    }
  }

  // Lets the peer read the answer before the close: what it still sends would
  // turn that into a reset. Bounded by the deadline and the bytes.
  void Linger() {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    SetDeadline(std::chrono::seconds(1));
    Discard(64 << 10);
  }
  void Discard(size_t room) {
    socket_.async_read_some(
        asio::buffer(sink_),
        [self = shared_from_this(), room](error_code error, size_t size) {
          if (error || size >= room) return self->Close();
          self->Discard(room - size);
        });
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  const std::shared_ptr<Shared> shared_;
  bool from_loopback_ = false;
  int requests_ = 0;
  beast::flat_buffer buffer_{kMaxHeaderBytes + 1024};
  std::optional<http::request_parser<http::empty_body>> parser_;
  Response response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
  std::array<char, 4096> sink_;
};

}  // namespace

class AdminHttp::Impl {
 public:
  explicit Impl(AdminHttpOptions options)
      : shared_(std::make_shared<Shared>(Shared{std::move(options), {}})) {}

  absl::Status Start() {
    const std::string& address = shared_->options.address;
    const auto endpoint = ParseEndpoint(address);
    if (!endpoint) {
      return absl::InvalidArgumentError(
          absl::StrCat(address,
                       ": not a numeric address and a port such as "
                       "127.0.0.1:9464"));
    }
    error_code error;
    acceptor_.open(endpoint->protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(*endpoint, error);
    if (!error) acceptor_.listen(128, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat(address, ": cannot listen: ", error.message()));
    }
    port_ = acceptor_.local_endpoint(error).port();
    Accept();
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "hotline-http");
      io_.run();
    });
    return absl::OkStatus();
  }

  void Stop() {
    std::call_once(stopped_, [this] {
      asio::post(io_, [this] {
        error_code ignored;
        acceptor_.close(ignored);
        pause_.cancel();
        for (Session* session : shared_->sessions) session->Close();
      });
      // Without a socket there is nothing left to run.
      if (thread_.joinable()) thread_.join();
    });
  }

  int port() const { return port_; }

 private:
  void Accept() {
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (error) return AcceptLater(error);
      if (static_cast<int>(shared_->sessions.size()) <
          shared_->options.max_connections) {
        std::make_shared<Session>(std::move(socket), shared_)->Start();
      }
      Accept();
    });
  }

  // Out of descriptors, most likely: trying at once would spin.
  void AcceptLater(error_code error) {
    static LogLimiter limiter(std::chrono::seconds(10));
    HOTLINE_LOG_LIMITED(
        limiter, kWarning, "http: cannot accept",
        {{"error", error.message()}, {"suppressed", limiter.TakeSuppressed()}});
    pause_.expires_after(std::chrono::milliseconds(100));
    pause_.async_wait([this](error_code) {
      if (acceptor_.is_open()) Accept();
    });
  }

  asio::io_context io_{1};
  tcp::acceptor acceptor_{io_};
  asio::steady_timer pause_{io_};
  const std::shared_ptr<Shared> shared_;
  std::once_flag stopped_;
  std::thread thread_;
  int port_ = 0;
};

absl::StatusOr<std::unique_ptr<AdminHttp>> AdminHttp::Start(
    AdminHttpOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  const absl::Status status = impl->Start();
  if (!status.ok()) return status;
  return std::unique_ptr<AdminHttp>(new AdminHttp(std::move(impl)));
}

AdminHttp::AdminHttp(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AdminHttp::~AdminHttp() { Stop(); }

int AdminHttp::port() const { return impl_->port(); }

void AdminHttp::Stop() { impl_->Stop(); }

}  // namespace hotline::server
