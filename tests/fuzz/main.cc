// libFuzzer's entry. HOTLINE_FUZZ_TARGET is one of targets.h's functions.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hotline::fuzz::HOTLINE_FUZZ_TARGET(
      {reinterpret_cast<const char*>(data), size});
  return 0;
}
