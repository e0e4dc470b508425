#include "server/observe/admin_http.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "server/observe/admin_http_connection.h"

namespace hotline::server {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

// Long enough for a burst: a connection that does not fit waits for the second
// SYN.
constexpr int kBacklog = 1024;
constexpr int kTurn = 64;  // Connections accepted in one go.
constexpr std::chrono::milliseconds kPause(20);
// The number of probes answered at once while no descriptor is free.
constexpr size_t kSpares = 4;

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

}  // namespace

class AdminHttp::Impl {
 public:
  explicit Impl(AdminHttpOptions options) : shared_(std::move(options), &io_) {
    shared_.connections.on_leave = [this] { FillSpares(); };
  }
  ~Impl() {
    for (const int spare : spares_) close(spare);
  }

  absl::Status Start() {
    const std::string& address = shared_.options.address;
    const auto endpoint = ParseEndpoint(address);
    if (!endpoint) {
      return absl::InvalidArgumentError(
          absl::StrCat(address,
                       ": not a numeric address and a port such as "
                       "127.0.0.1:9464"));
    }
    if (const error_code error = Listen(*endpoint)) {
      return absl::UnavailableError(
          absl::StrCat(address, ": cannot listen: ", error.message()));
    }
    error_code error;
    listening_fd_ = acceptor_.native_handle();
    port_ = acceptor_.local_endpoint(error).port();
    FillSpares();
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
        CloseAcceptor();
        shared_.connections.CloseAll();
      });
      // io_.run() returns once the last socket is closed.
      if (thread_.joinable()) thread_.join();
    });
  }

  void StopAccepting() {
    asio::post(io_, [this] {
      CloseAcceptor();
      shared_.closing = true;
    });
  }

  int port() const { return port_; }
  int listening_fd() const { return listening_fd_; }

 private:
  error_code Listen(const tcp::endpoint& endpoint) {
    error_code error;
    const int given = shared_.options.listening_fd;
    if (given >= 0) {
      acceptor_.assign(endpoint.protocol(), given, error);
    } else {
      acceptor_.open(endpoint.protocol(), error);
      if (!error) {
        acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
      }
      if (!error) acceptor_.bind(endpoint, error);
    }
    if (!error) acceptor_.listen(kBacklog, error);
    if (!error) acceptor_.non_blocking(true, error);
    return error;
  }

  // Not close(), which leaves the reactor watching a socket that another
  // process has, too.
  void CloseAcceptor() {
    pause_.cancel();
    if (!acceptor_.is_open()) return;
    error_code error;
    const int fd = acceptor_.release(error);
    if (!error) close(fd);
  }

  void Accept() {
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (!error) {
        Take(std::move(socket));
        error = AcceptMore();
      }
      if (!error || error == asio::error::would_block) return Accept();
      OnAcceptFailed(error);
    });
  }

  // Accepts the whole backlog, or a new connection would wait for a turn of all
  // open ones for each connection before it.
  error_code AcceptMore() {
    error_code error;
    for (int i = 0; i < kTurn && !error; ++i) {
      tcp::socket socket(io_);
      acceptor_.accept(socket, error);
      if (!error) Take(std::move(socket));
    }
    return error;
  }

  void Take(tcp::socket socket) {
    if (shared_.connections.size() >= shared_.options.max_connections) {
      shared_.connections.CloseOne();
    }
    std::make_shared<AdminConnection>(std::move(socket), &shared_)->Start();
  }

  void OnAcceptFailed(error_code error) {
    static LogLimiter limiter(std::chrono::seconds(10));
    HOTLINE_LOG_LIMITED(
        limiter, kWarning, "http: cannot accept",
        {{"error", error.message()}, {"suppressed", limiter.TakeSuppressed()}});
    if (error == asio::error::connection_aborted) return Accept();
    if ((error == asio::error::no_descriptors ||
         error == boost::system::errc::too_many_files_open_in_system) &&
        AcceptOnSpare()) {
      return Accept();
    }
    // An immediate retry might spin.
    pause_.expires_after(kPause);
    pause_.async_wait([this](error_code) {
      if (acceptor_.is_open()) Accept();
    });
  }

  // All descriptors are in use, probably by upstreams and callers. Accepts on a
  // spare one, or on that of an older connection. False: another thread took
  // the freed descriptor.
  bool AcceptOnSpare() {
    if (!spares_.empty()) {
      close(spares_.back());
      spares_.pop_back();
    } else if (!shared_.connections.CloseOne()) {
      return false;
    }
    tcp::socket socket(io_);
    error_code error;
    acceptor_.accept(socket, error);
    if (!error) Take(std::move(socket));
    if (error) FillSpares();
    return !error || error == asio::error::would_block;
  }

  void FillSpares() {
    while (spares_.size() < kSpares) {
      const int spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
      if (spare < 0) return;
      spares_.push_back(spare);
    }
  }

  asio::io_context io_{1};
  tcp::acceptor acceptor_{io_};
  asio::steady_timer pause_{io_};
  AdminShared shared_;
  std::vector<int> spares_;  // Descriptors set aside.
  std::once_flag stopped_;
  std::thread thread_;
  int port_ = 0;
  int listening_fd_ = -1;
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

int AdminHttp::listening_fd() const { return impl_->listening_fd(); }

void AdminHttp::StopAccepting() { impl_->StopAccepting(); }

void AdminHttp::Stop() { impl_->Stop(); }

}  // namespace hotline::server
