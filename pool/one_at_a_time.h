// Work that any thread may bring and one thread at a time does.
#ifndef HOTLINE_POOL_ONE_AT_A_TIME_H_
#define HOTLINE_POOL_ONE_AT_A_TIME_H_

#include <atomic>

namespace hotline::pool {

// A thread that finds another one at work leaves its own to that one, so work
// never nests, however deep the calls do.
//
// That thread has to be sure that its work is seen. So the flag is cleared by
// an exchange, not by a store: the exchange reads what the other thread wrote
// there and with it all that the other had done before. After a store the
// processor may look for more work before the flag is seen to be clear, and
// then work is left behind that no thread knows of.
class OneAtATime {
 public:
  // Calls work() for as long as has_work() says so and no other thread does it.
  // Work that was published before Run is done, or being done by a thread that
  // is inside Run, when this returns (unless has_work() has had enough of it).
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
