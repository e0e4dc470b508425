// std::mutex under clang's thread-safety annotations. The pool's hot locks are
// taken twice per request: std::mutex costs half of absl::Mutex there.
#ifndef HOTLINE_BASE_MUTEX_H_
#define HOTLINE_BASE_MUTEX_H_

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "base/time.h"

namespace hotline {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mu_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mu_.unlock(); }

 private:
  friend class MutexLock;

  std::mutex mu_;
};

// Holds a Mutex for a scope.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(mu) {
    mu_->Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mu_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  // Unlock until `changed` is notified, or until `when`; may return early.
  //
  //   while (queue_.empty()) lock.Wait(&changed_);
  void Wait(std::condition_variable* changed) {
    std::unique_lock<std::mutex> lock(mu_->mu_, std::adopt_lock);
    changed->wait(lock);
    lock.release();
  }
  void WaitUntil(std::condition_variable* changed, Instant when) {
    std::unique_lock<std::mutex> lock(mu_->mu_, std::adopt_lock);
    changed->wait_until(lock, when);
    lock.release();
  }

 private:
  Mutex* const mu_;
};

}  // namespace hotline

#endif  // HOTLINE_BASE_MUTEX_H_
