#include "net/socket_watch.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cassert>
#include <utility>

namespace hotline::net {
namespace {

// Of one turn; then deadlines and what was posted have theirs.
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
                                 Tell();
                                 Wait();
                               });
}

void SocketWatch::Tell() {
  epoll_event events[kEventsPerTurn];
  const int count = epoll_wait(epoll_, events, kEventsPerTurn, 0);
  for (int i = 0; i < count; ++i) {
    const auto found = entries_.find(events[i].data.u64);
    // One that was told before it may have closed this one, or itself.
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
  // The watcher may end with it, and look at this.
  const std::shared_ptr<Watcher> watcher = std::move(found->second.watcher);
  entries_.erase(found);
}

// Without any event the socket is not in the set: one that failed would be
// ready for ever.
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
  // As if nothing was asked: it may be in the set no more.
  entry->events = 0;
  return false;
}

}  // namespace hotline::net
