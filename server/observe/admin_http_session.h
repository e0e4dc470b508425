// The connections of the operators' listener, and the pages that they ask for.
// Part of admin_http; of its thread alone.
#ifndef HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_SESSION_H_
#define HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_SESSION_H_

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

namespace hotline::server {

struct AdminPage {
  boost::beast::http::status status = boost::beast::http::status::ok;
  std::string_view type = "text/plain; charset=utf-8";
  // Shared by all that it answers: a megabyte for each would add up.
  std::shared_ptr<const std::string> body;
};

// Answers paths. /metrics and the status page may take milliseconds: one of
// them is made at a time, for all who asked for it by then, and between two of
// them the listener does all else that it has to do. So no number of scrapes
// holds up a probe for longer than the making of one page.
class AdminPages {
 public:
  using Done = std::function<void(AdminPage)>;

  AdminPages(const AdminHttpOptions* options, boost::asio::io_context* io)
      : options_(options), io_(io) {}

  // Calls `done` with the page, at once or later. `local`: the status page may
  // be shown.
  void Ask(std::string_view path, bool local, Done done);

 private:
  struct Slow {
    std::string_view path;
    std::vector<Done> asked;
  };

  void MakeLater();
  void MakeNext();

  const AdminHttpOptions* const options_;
  boost::asio::io_context* const io_;
  std::array<Slow, 2> slow_{{{"/metrics", {}}, {"/", {}}}};
  bool making_ = false;
};

class AdminSession;

// The open connections. When there are too many, the peer that has the most of
// them loses the one that has done nothing useful for longest: has neither
// completed a request nor taken an answer. So whoever hoards connections makes
// room for the others, and a probe is served even among strangers of its own
// address.
class AdminSessions {
 public:
  void Enter(AdminSession* session, const std::string& peer);
  void Leave(AdminSession* session);
  // It has just done something useful.
  void Touch(AdminSession* session);

  // Closes one, as described. False: there is none.
  bool CloseOne();
  void CloseAll();
  int size() const { return static_cast<int>(by_use_.size()); }

  // Called after each Leave.
  std::function<void()> on_leave;

 private:
  struct Entry {
    AdminSession* session;
    std::string peer;
  };

  std::list<Entry> by_use_;  // The longest without one first.
  std::map<AdminSession*, std::list<Entry>::iterator> entries_;
  std::map<std::string, int> peers_;  // How many each has.
};

// What the connections need; outlives them.
struct AdminShared {
  AdminShared(AdminHttpOptions with, boost::asio::io_context* io)
      : options(std::move(with)), pages(&options, io) {}

  const AdminHttpOptions options;
  AdminPages pages;
  AdminSessions sessions;
};

// One connection: wait, read, answer, and again. Each step has its deadline.
class AdminSession : public std::enable_shared_from_this<AdminSession> {
 public:
  AdminSession(boost::asio::ip::tcp::socket socket, AdminShared* shared);
  ~AdminSession() { Close(); }

  void Start();
  void Close();
  // Close with a reset: drops at once what a peer that does not read has left
  // in our buffers.
  void GiveUp();

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

#endif  // HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_SESSION_H_
