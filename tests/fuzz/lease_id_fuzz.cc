#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "base/lease_id.h"
#include "tests/fuzz/targets.h"

namespace hotline::fuzz {

void FuzzLeaseId(std::string_view input) {
  if (const auto id = DecodeLeaseId(input)) {
    HOTLINE_PROMISE(EncodeLeaseId(*id) == input);
  }
  const auto take = [&input](auto* number) {
    const size_t size = std::min(input.size(), sizeof(*number));
    std::memcpy(number, input.data(), size);
    input.remove_prefix(size);
  };
  LeaseId id;
  take(&id.instance);
  take(&id.shard);
  take(&id.slot);
  take(&id.version);
  take(&id.secret);
  const std::string text = EncodeLeaseId(id);
  HOTLINE_PROMISE(DecodeLeaseId(text) == id);
  HOTLINE_PROMISE(!DecodeLeaseId(text + "0").has_value());
  HOTLINE_PROMISE(!DecodeLeaseId(text.substr(1)).has_value());
}

}  // namespace hotline::fuzz
