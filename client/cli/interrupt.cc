#include "client/cli/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>

namespace hotline::client {

std::atomic<Interruptible*> Interruptible::current_{nullptr};
static_assert(std::atomic<Interruptible*>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);

void Interruptible::OnSignal(int /*signal*/) {
  const int before = errno;
  if (Interruptible* const current = current_.load()) {
    current->flag_ = true;
    eventfd_write(current->fd_, 1);
  }
  errno = before;
}

Interruptible::Interruptible() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  current_ = this;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, &interrupt_before_);
  sigaction(SIGTERM, &action, &terminate_before_);
}

Interruptible::~Interruptible() {
  sigaction(SIGINT, &interrupt_before_, nullptr);
  sigaction(SIGTERM, &terminate_before_, nullptr);
  current_ = nullptr;
  close(fd_);
}

void Interruptible::Wait(Duration most, int input) const {
  pollfd ready[] = {{fd_, POLLIN, 0}, {input, POLLIN, 0}};
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(most).count();
  poll(ready, 2, static_cast<int>(std::clamp<int64_t>(ms, 0, 24 * 3'600'000)));
}

}  // namespace hotline::client
