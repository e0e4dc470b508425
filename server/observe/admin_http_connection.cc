#include "server/observe/admin_http_connection.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "boost/asio/post.hpp"
#include "boost/beast/http/read.hpp"
#include "boost/beast/http/write.hpp"
#include "server/observe/metrics.h"
#include "server/observe/negotiation.h"

namespace hotline::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

constexpr size_t kMaxHeaderBytes = 8192;
// The default would let peers that read nothing use megabytes of kernel memory
// each.
constexpr int kSendBytes = 64 << 10;

asio::ip::address Unmapped(const asio::ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
}

// Connections are counted by IPv4 address or IPv6 /64.
std::string PeerOf(const asio::ip::address& address) {
  if (address.is_v4()) {
    const auto bytes = address.to_v4().to_bytes();
    return std::string(bytes.begin(), bytes.end());
  }
  const auto bytes = address.to_v6().to_bytes();
  return std::string(bytes.begin(), bytes.begin() + 8);
}

// Against DNS rebinding, by which a web page makes a browser on this machine
// fetch the status page under the web page's own name.
bool IsLocalName(std::string_view host) {
  if (const size_t colon = host.rfind(':');
      colon != std::string_view::npos && !host.ends_with(']')) {
    host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  if (host.empty() || host == "localhost") return true;
  boost::system::error_code error;
  asio::ip::make_address(std::string(host), error);
  return !error;
}

AdminPage PageOf(http::status status, std::string body) {
  return {.status = status,
          .body = std::make_shared<const std::string>(std::move(body))};
}

AdminPage Zipped(AdminPage page) {
  std::string body = Gzip(*page.body);
  if (body.empty()) return page;  // Out of memory.
  page.body = std::make_shared<const std::string>(std::move(body));
  page.encoding = "gzip";
  return page;
}

AdminPage Readiness(const std::vector<std::string>& reasons) {
  if (reasons.empty()) return PageOf(http::status::ok, "ok\n");
  std::string body;
  for (const std::string& reason : reasons) {
    absl::StrAppend(&body, "not ready: ", Printable(reason), "\n");
  }
  return PageOf(http::status::service_unavailable, std::move(body));
}

}  // namespace

void AdminPages::Ask(const AdminRequest& request, Done done) {
  const std::string_view path = request.path;
  if (path == "/healthz") return done(PageOf(http::status::ok, "ok\n"));
  if (path == "/readyz") return done(Readiness(options_->not_ready()));
  for (Slow& slow : slow_) {
    if (path != slow.path || (path == "/" && !request.local)) continue;
    if (path == "/metrics" && request.format != slow.format) continue;
    slow.asked.push_back({path == "/metrics" && request.gzip, std::move(done)});
    return MakeLater();
  }
  done(PageOf(http::status::not_found, "not found\n"));
}

void AdminPages::MakeLater() {
  if (std::exchange(making_, true)) return;
  asio::post(*io_, [this] { MakeNext(); });
}

void AdminPages::MakeNext() {
  making_ = false;
  const auto next =
      std::find_if(slow_.begin(), slow_.end(),
                   [](const Slow& slow) { return !slow.asked.empty(); });
  if (next == slow_.end()) return;
  const std::vector<Asked> all = std::exchange(next->asked, {});
  const AdminPage page = Make(next->path, next->format);
  // The pages take turns.
  std::rotate(slow_.begin(), next + 1, slow_.end());
  AdminPage zipped;
  for (const Asked& asked : all) {
    if (asked.gzip && zipped.body == nullptr) zipped = Zipped(page);
    asked.done(asked.gzip ? zipped : page);
  }
  for (const Slow& slow : slow_) {
    if (!slow.asked.empty()) MakeLater();
  }
}

AdminPage AdminPages::Make(std::string_view path, MetricsFormat format) const {
  if (path == "/") return PageOf(http::status::ok, options_->status_page());
  AdminPage page = PageOf(http::status::ok, options_->metrics(format));
  page.type = ContentTypeOf(format);
  page.vary = "Accept, Accept-Encoding";
  return page;
}

void AdminConnections::Enter(AdminConnection* connection,
                             const std::string& peer) {
  by_use_.push_back({connection, peer});
  entries_[connection] = std::prev(by_use_.end());
  ++peers_[peer];
}

void AdminConnections::Leave(AdminConnection* connection) {
  const auto found = entries_.find(connection);
  if (found == entries_.end()) return;
  const auto peer = peers_.find(found->second->peer);
  if (--peer->second == 0) peers_.erase(peer);
  by_use_.erase(found->second);
  entries_.erase(found);
  if (on_leave) on_leave();
}

void AdminConnections::Touch(AdminConnection* connection) {
  const auto found = entries_.find(connection);
  if (found == entries_.end()) return;
  by_use_.splice(by_use_.end(), by_use_, found->second);
}

bool AdminConnections::CloseOne() {
  const auto most = std::max_element(
      peers_.begin(), peers_.end(),
      [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == peers_.end()) return false;
  const auto oldest = std::find_if(
      by_use_.begin(), by_use_.end(),
      [most](const Entry& entry) { return entry.peer == most->first; });
  oldest->connection->Reset();
  return true;
}

void AdminConnections::CloseAll() {
  while (!by_use_.empty()) by_use_.front().connection->Close();
}

AdminConnection::AdminConnection(tcp::socket socket, AdminShared* shared)
    : socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      shared_(shared),
      buffer_(kMaxHeaderBytes + 1024) {
  error_code error;
  const auto remote = socket_.remote_endpoint(error);
  const asio::ip::address address = Unmapped(remote.address());
  from_loopback_ = !error && address.is_loopback();
  socket_.set_option(tcp::no_delay(true), error);
  socket_.set_option(tcp::socket::send_buffer_size(kSendBytes), error);
  shared_->connections.Enter(this, PeerOf(address));
}

void AdminConnection::Start() {
  SetDeadline(shared_->options.read_timeout);
  Await();
}

void AdminConnection::Close() {
  error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
  shared_->connections.Leave(this);
}

void AdminConnection::Reset() {
  error_code ignored;
  socket_.set_option(tcp::socket::linger(true, 0), ignored);
  Close();
}

// Closes the connection if the current step takes longer.
void AdminConnection::SetDeadline(Duration length) {
  timer_.expires_after(
      std::chrono::duration_cast<asio::steady_timer::duration>(length));
  timer_.async_wait([weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    if (!error && self != nullptr) self->Reset();
  });
}

void AdminConnection::Await() {
  if (buffer_.size() > 0) return Read();
  socket_.async_wait(tcp::socket::wait_read,
                     [self = shared_from_this()](error_code error) {
                       if (error) return self->Close();
                       self->Read();
                     });
}

void AdminConnection::Read() {
  // The first request's deadline runs since the connection was accepted.
  if (requests_ > 0) SetDeadline(shared_->options.read_timeout);
  parser_.emplace();
  parser_->header_limit(kMaxHeaderBytes);
  parser_->body_limit(0);
  http::async_read(socket_, buffer_, *parser_,
                   [self = shared_from_this()](error_code error, size_t) {
                     self->OnRequest(error);
                   });
}

void AdminConnection::OnRequest(error_code error) {
  if (!socket_.is_open()) return;
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
  shared_->connections.Touch(this);
  Answer();
}

void AdminConnection::Answer() {
  const auto& request = parser_->get();
  const bool keep = request.keep_alive() && !shared_->closing &&
                    requests_ < shared_->options.max_requests_per_connection;
  const unsigned version = request.version();
  const bool head = request.method() == http::verb::head;
  if (request.method() != http::verb::get && !head) {
    return Write(
        PageOf(http::status::method_not_allowed, "only GET and HEAD\n"),
        version, keep, false);
  }
  const auto text = [](auto view) {
    return std::string_view(view.data(), view.size());
  };
  const std::string_view target = text(request.target());
  SetDeadline(shared_->options.write_timeout);
  shared_->pages.Ask(
      {.path = target.substr(0, target.find('?')),
       .local = from_loopback_ && IsLocalName(text(request[http::field::host])),
       .format = FormatFor(text(request[http::field::accept])),
       .gzip = AcceptsGzip(text(request[http::field::accept_encoding]))},
      [self = shared_from_this(), version, keep, head](AdminPage page) {
        // The connection may have been closed while the page was made.
        if (!self->socket_.is_open()) return;
        self->Write(std::move(page), version, keep, head);
      });
}

// The end of an invalid request is unknown, so the connection cannot be kept.
void AdminConnection::Refuse(http::status status) {
  const auto reason = http::obsolete_reason(status);
  Write(PageOf(status, std::string(reason.data(), reason.size()) + "\n"), 11,
        false, false);
}

void AdminConnection::Write(AdminPage page, unsigned version, bool keep,
                            bool head) {
  response_ = http::response<Body>(page.status, version);
  const auto set = [this](http::field field, std::string_view value) {
    if (value.empty()) return;
    response_.set(field, beast::string_view(value.data(), value.size()));
  };
  set(http::field::content_type, page.type);
  set(http::field::content_encoding, page.encoding);
  set(http::field::vary, page.vary);
  response_.set(http::field::cache_control, "no-store");
  response_.set("X-Content-Type-Options", "nosniff");
  if (page.status == http::status::method_not_allowed) {
    response_.set(http::field::allow, "GET, HEAD");
  }
  response_.keep_alive(keep);
  response_.content_length(page.body->size());
  body_ = std::move(page.body);
  if (!head) response_.body() = {body_->data(), body_->size()};

  SetDeadline(shared_->options.write_timeout);
  const auto done = [self = shared_from_this(), keep](error_code error,
                                                      size_t) {
    self->body_ = nullptr;
    if (error) return self->Close();
    self->shared_->connections.Touch(self.get());
    if (!keep) return self->Linger();
    self->SetDeadline(self->shared_->options.idle_timeout);
    self->Await();
  };
  serializer_.emplace(response_);
  if (head) {
    http::async_write_header(socket_, *serializer_, done);
  } else {
    http::async_write(socket_, *serializer_, done);
  }
}

// Reads and drops bytes before the close: unread ones would make it a reset,
// and the peer might lose the response. Bounded in time and bytes.
void AdminConnection::Linger() {
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  SetDeadline(std::chrono::seconds(1));
  Discard(64 << 10);
}

void AdminConnection::Discard(size_t room) {
  socket_.async_read_some(
      asio::buffer(sink_),
      [self = shared_from_this(), room](error_code error, size_t size) {
        if (error || size >= room) return self->Close();
        self->Discard(room - size);
      });
}

}  // namespace hotline::server
