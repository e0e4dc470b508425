#include "net/socket_watch.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cassert>
#include <utility>

namespace hotline::net {
namespace {

// Events of one turn; deadlines and posted work run in between.
constexpr int kEventsPerTurn = 64;

}  // namespace

struct SocketWatch::Asio {
  using Descriptor = boost::asio::posix::basic_stream_descriptor<
      boost::asio::io_context::executor_type>;
  Descriptor descriptor;
};

SocketWatch::SocketWatch(boost::asio::io_context& io)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      asio_(new Asio{Asio::Descriptor(io, epoll_)}) {
  Wait();
}

SocketWatch::~SocketWatch() = default;

void SocketWatch::Finish() {
  boost::system::error_code ignored;
  asio_->descriptor.cancel(ignored);
}

void SocketWatch::Wait() {
  asio_->descriptor.async_wait(Asio::Descriptor::wait_read,
                               [this](const boost::system::error_code& error) {
                                 if (error) return;  // Finished.
                                 Dispatch();
                                 Wait();
                               });
}

void SocketWatch::Dispatch() {
  turns_.store(turns_.load(std::memory_order_relaxed) + 1,
               std::memory_order_relaxed);
  epoll_event events[kEventsPerTurn];
  const int count = epoll_wait(epoll_, events, kEventsPerTurn, 0);
  for (int i = 0; i < count; ++i) {
    const auto found = entries_.find(events[i].data.u64);
    // An earlier watcher of this turn may have removed this socket.
    if (found == entries_.end()) continue;
    const std::shared_ptr<Watcher> watcher = found->second.watcher;
    const uint32_t wanted = found->second.events;
    const bool failed = (events[i].events & (EPOLLERR | EPOLLHUP)) != 0;
    const auto ready = [&](uint32_t event) {
      return (wanted & event) != 0 && (failed || (events[i].events & event));
    };
    watcher->OnSocketReady(ready(EPOLLIN), ready(EPOLLOUT));
  }
}

SocketWatch::Token SocketWatch::Add(int fd, std::shared_ptr<Watcher> watcher) {
  const Token token = next_++;
  Entry& entry = entries_[token];
  entry.fd = fd;
  entry.watcher = std::move(watcher);
  if (Control(token, &entry, EPOLLIN)) return token;
  entries_.erase(token);
  return 0;
}

bool SocketWatch::SetInterest(Token token, bool read, bool write) {
  const auto found = entries_.find(token);
  assert(found != entries_.end());
  return Control(token, &found->second,
                 (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u));
}

void SocketWatch::Remove(Token token) {
  const auto found = entries_.find(token);
  if (found == entries_.end()) return;
  Control(token, &found->second, 0);
  // Destroying the watcher may call back into this object.
  const std::shared_ptr<Watcher> watcher = std::move(found->second.watcher);
  entries_.erase(found);
}

// A socket without interest is not in the epoll set: if it failed, it would be
// ready all the time.
bool SocketWatch::Control(Token token, Entry* entry, uint32_t events) {
  if (entry->events == events) return true;
  const int operation = events == 0          ? EPOLL_CTL_DEL
                        : entry->events == 0 ? EPOLL_CTL_ADD
                                             : EPOLL_CTL_MOD;
  entry->events = events;
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (epoll_ctl(epoll_, operation, entry->fd, &event) == 0) return true;
  // Recorded as without interest: it may not be in the set.
  entry->events = 0;
  return false;
}

}  // namespace hotline::net
