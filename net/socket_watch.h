// Reports which of a loop's open connections can be read or written.
//
// Asio's reactor is one-shot: every event costs a system call to wait again.
// Connections are read all their life, so they are kept in an epoll set of
// their own. Asio waits for that set only, and has to be armed once per turn,
// however many connections were ready.
//
//   const auto token = loop.sockets().Add(fd, watcher);   // Waits for input.
//   loop.sockets().SetInterest(token, true, true);        // And for room.
//   loop.sockets().Remove(token);
//   close(fd);
//
// Not thread-safe: belongs to the loop's thread, except the constructor, the
// destructor and turns.
#ifndef HOTLINE_NET_SOCKET_WATCH_H_
#define HOTLINE_NET_SOCKET_WATCH_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace hotline::net {

class SocketWatch {
 public:
  // Called repeatedly while a socket is ready (level-triggered). A failed
  // socket is ready for everything; the next read or write returns its error.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void OnSocketReady(bool readable, bool writable) = 0;
  };

  // Identifies a watched socket; never reused. 0: none.
  using Token = uint64_t;

  explicit SocketWatch(boost::asio::io_context& io);
  ~SocketWatch();
  SocketWatch(const SocketWatch&) = delete;
  SocketWatch& operator=(const SocketWatch&) = delete;

  // Stops watching, so that the io_context can run out of work.
  void Finish();

  // Watches `fd` for input. Keeps the watcher alive until Remove. 0: failed,
  // see errno (too many watches, no memory); the watcher is not kept.
  Token Add(int fd, std::shared_ptr<Watcher> watcher);
  // Changes the events to wait for. With neither, not even an error is
  // reported. False: failed, see errno; events may be lost, so close the
  // socket.
  bool SetInterest(Token token, bool read, bool write);
  // To be called before the socket is closed. No event is reported afterwards,
  // not even one that has been collected already.
  void Remove(Token token);

  // How often ready sockets have been reported. Any thread.
  uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }

 private:
  struct Asio;
  struct Entry {
    int fd = -1;
    uint32_t events = 0;
    std::shared_ptr<Watcher> watcher;
  };

  void Wait();
  void Dispatch();
  bool Control(Token token, Entry* entry, uint32_t events);

  const int epoll_;
  const std::unique_ptr<Asio> asio_;
  absl::flat_hash_map<Token, Entry> entries_;
  Token next_ = 1;
  std::atomic<uint64_t> turns_{0};
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_SOCKET_WATCH_H_
