// Random numbers from a seed.
#ifndef HOTLINE_TESTS_SIM_DICE_H_
#define HOTLINE_TESTS_SIM_DICE_H_

#include <cstdint>

#include "base/time.h"

namespace hotline::sim {

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x2545f4914f6cdd1du + 1) {}

  uint64_t Bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }
  // In [least, most].
  int Between(int least, int most) {
    return least + static_cast<int>((Bits() >> 33) %
                                    static_cast<uint64_t>(most - least + 1));
  }
  bool Percent(int share) { return Between(1, 100) <= share; }
  Duration Micros(int least, int most) {
    return std::chrono::microseconds(Between(least, most));
  }
  Duration Millis(int least, int most) {
    return std::chrono::milliseconds(Between(least, most));
  }

 private:
  uint64_t state_;
};

}  // namespace hotline::sim

#endif  // HOTLINE_TESTS_SIM_DICE_H_
