// The connections of the operators' listener, and its pages. Part of
// admin_http; for its thread alone.
#ifndef HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_CONNECTION_H_
#define HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_CONNECTION_H_

#include <array>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/serializer.hpp"
#include "boost/beast/http/span_body.hpp"
#include "server/observe/admin_http.h"
#include "server/observe/metrics.h"

namespace hotline::server {

struct AdminPage {
  boost::beast::http::status status = boost::beast::http::status::ok;
  std::string_view type = "text/plain; charset=utf-8";
  std::string_view encoding = {};  // Empty: none.
  std::string_view vary = {};      // Request headers that it depends on.
  // Shared by all requests for the page: it may have a megabyte.
  std::shared_ptr<const std::string> body;
};

// What is asked for.
struct AdminRequest {
  std::string_view path;
  bool local = false;  // The caller may see the status page.
  MetricsFormat format = MetricsFormat::kText;
  bool gzip = false;
};

// Makes the pages. /metrics and the status page may take milliseconds: they are
// made one at a time, once for all requests that are waiting for them, and the
// listener serves other requests in between. So however many scrapes there are,
// a probe waits for one page at most.
class AdminPages {
 public:
  using Done = std::function<void(AdminPage)>;

  AdminPages(const AdminHttpOptions* options, boost::asio::io_context* io)
      : options_(options), io_(io) {}

  // Calls `done` with the page, at once or later.
  void Ask(const AdminRequest& request, Done done);

 private:
  struct Asked {
    bool gzip;
    Done done;
  };
  struct Slow {
    std::string_view path;
    MetricsFormat format;
    std::vector<Asked> asked;
  };

  void MakeLater();
  void MakeNext();
  AdminPage Make(std::string_view path, MetricsFormat format) const;

  const AdminHttpOptions* const options_;
  boost::asio::io_context* const io_;
  std::array<Slow, 3> slow_{{{"/metrics", MetricsFormat::kText, {}},
                             {"/metrics", MetricsFormat::kOpenMetrics, {}},
                             {"/", MetricsFormat::kText, {}}}};
  bool making_ = false;
};

class AdminConnection;

// The open connections. When there are too many, the peer with most of them
// loses the one that has been useless for longest: that has neither completed a
// request nor read a response. So a peer that hoards connections makes room for
// others, and a probe is served even from an address with many connections.
class AdminConnections {
 public:
  void Enter(AdminConnection* connection, const std::string& peer);
  void Leave(AdminConnection* connection);
  // It has completed a request or read a response.
  void Touch(AdminConnection* connection);

  // Closes one, as described. False: there is none.
  bool CloseOne();
  void CloseAll();
  int size() const { return static_cast<int>(by_use_.size()); }

  // Called after each Leave.
  std::function<void()> on_leave;

 private:
  struct Entry {
    AdminConnection* connection;
    std::string peer;
  };

  std::list<Entry> by_use_;  // The one useless for longest first.
  std::map<AdminConnection*, std::list<Entry>::iterator> entries_;
  std::map<std::string, int> peers_;  // Connections of each.
};

// Used by all connections; outlives them.
struct AdminShared {
  AdminShared(AdminHttpOptions with, boost::asio::io_context* io)
      : options(std::move(with)), pages(&options, io) {}

  const AdminHttpOptions options;
  AdminPages pages;
  AdminConnections connections;
  bool closing = false;  // No connection is kept after a response.
};

// One connection: waits, reads, answers, and repeats. Each step has a deadline.
class AdminConnection : public std::enable_shared_from_this<AdminConnection> {
 public:
  AdminConnection(boost::asio::ip::tcp::socket socket, AdminShared* shared);
  ~AdminConnection() { Close(); }

  void Start();
  void Close();
  // Closes with a reset, which drops the unread rest of a response at once.
  void Reset();

 private:
  using error_code = boost::system::error_code;

  void SetDeadline(Duration length);
  void Await();
  void Read();
  void OnRequest(error_code error);
  void Answer();
  void Refuse(boost::beast::http::status status);
  void Write(AdminPage page, unsigned version, bool keep, bool head);
  void Linger();
  void Discard(size_t room);

  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  AdminShared* const shared_;
  bool from_loopback_ = false;
  int requests_ = 0;
  boost::beast::flat_buffer buffer_;
  std::optional<
      boost::beast::http::request_parser<boost::beast::http::empty_body>>
      parser_;
  using Body = boost::beast::http::span_body<const char>;
  std::shared_ptr<const std::string> body_;
  boost::beast::http::response<Body> response_;
  std::optional<boost::beast::http::response_serializer<Body>> serializer_;
  std::array<char, 4096> sink_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_CONNECTION_H_
