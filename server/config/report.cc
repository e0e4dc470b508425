#include "server/config/report.h"

#include "absl/strings/str_cat.h"
#include "base/ip_address.h"

namespace hotline::server {
namespace {

// The address that the range begins with.
IpAddress FirstOf(const IpRange& range) {
  IpAddress first = range.base;
  for (int bit = range.prefix; bit < range.base.bits(); ++bit) {
    first.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80 >> bit % 8));
  }
  return first;
}

}  // namespace

void ConfigReport::WarnOfHostBits(
    const std::string& path, const std::vector<std::string>& entries) const {
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto range = IpRange::Parse(entries[i]);
    if (!range) continue;
    const IpAddress first = FirstOf(*range);
    if (first == range->base) continue;
    Warn(absl::StrCat(path, "[", i, "]"),
         absl::StrCat(entries[i], " has bits set beyond its prefix: it means ",
                      first.ToString(), "/", range->prefix, ", or use ",
                      range->base.ToString(), " for this address alone"));
  }
}

}  // namespace hotline::server
