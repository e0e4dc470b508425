// Work that any thread may add and one thread at a time carries out.
#ifndef HOTLINE_POOL_ONE_AT_A_TIME_H_
#define HOTLINE_POOL_ONE_AT_A_TIME_H_

#include <atomic>

namespace hotline::pool {

// A thread that finds another thread at work leaves its own work to that
// thread, so work never nests.
//
// The working thread must then see the added work. Therefore the flag is
// cleared by an exchange, not a store: the exchange reads the value that the
// other thread wrote to the flag, and so synchronizes with everything that
// thread did before. After a plain store, the processor could check for more
// work before the store is visible to others, and work would be left behind.
class OneAtATime {
 public:
  // Calls work() while has_work() returns true and no other thread is in
  // work(). Work that was published before Run has been done when Run returns,
  // or is being done by another thread inside Run, unless has_work() returned
  // false although there was work.
  template <typename HasWork, typename Work>
  void Run(HasWork&& has_work, Work&& work) {
    while (has_work()) {
      if (busy_.exchange(true, std::memory_order_acq_rel)) return;
      work();
      busy_.exchange(false, std::memory_order_acq_rel);
    }
  }

 private:
  std::atomic<bool> busy_{false};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_ONE_AT_A_TIME_H_
