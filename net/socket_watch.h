// Which of a loop's open connections can be read or written.
//
// Asio's reactor forgets a socket with each event: it has to be told again, by
// a system call, for every answer that is read. Connections are read all their
// life, so they are kept in a set (an epoll descriptor) of their own; Asio
// waits for that one alone, and is told again once for however many were ready.
//
// Not thread-safe: everything happens on the loop's thread, but for the
// constructor and the destructor.
#ifndef HOTLINE_NET_SOCKET_WATCH_H_
#define HOTLINE_NET_SOCKET_WATCH_H_

#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace hotline::net {

class SocketWatch {
 public:
  // Told again and again while a socket is ready for what was asked. A socket
  // that has failed is ready for everything: the next call says why.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void OnSocketReady(bool readable, bool writable) = 0;
  };

  // Names a socket that is watched; never reused. 0 names none.
  using Token = uint64_t;

  explicit SocketWatch(boost::asio::io_context& io);
  ~SocketWatch();
  SocketWatch(const SocketWatch&) = delete;
  SocketWatch& operator=(const SocketWatch&) = delete;

  // Watches nothing any more, so that the io_context can come to its end.
  void Finish();

  // Waits until `fd` can be read. Keeps the watcher alive until Remove. 0: the
  // kernel does not take it (errno says why: too many watches, no memory), and
  // nothing is kept.
  Token Add(int fd, std::shared_ptr<Watcher> watcher);
  // What to wait for from now on. With neither, nothing is told, not even that
  // the socket has failed. False: the kernel does not take it (errno says why);
  // nothing may be told any more, so the socket is to be given up.
  bool SetInterest(Token token, bool read, bool write);
  // Before the socket is closed. Nothing is told any more, also of what has
  // been seen already.
  void Remove(Token token);

 private:
  struct Asio;
  struct Entry {
    int fd = -1;
    uint32_t events = 0;
    std::shared_ptr<Watcher> watcher;
  };

  void Wait();
  void Tell();
  bool Control(Token token, Entry* entry, uint32_t events);

  const int epoll_;
  const std::unique_ptr<Asio> asio_;
  absl::flat_hash_map<Token, Entry> entries_;
  Token next_ = 1;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_SOCKET_WATCH_H_
