#include "server/config/report.h"

#include "absl/strings/str_cat.h"
#include "base/ip_address.h"

namespace hotline::server {
void ConfigReport::WarnOfHostBits(
    const std::string& path, const std::vector<std::string>& entries) const {
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto range = IpRange::Parse(entries[i]);
    if (!range) continue;
    const IpAddress first = range->First();
    if (first == range->base) continue;
    Warn(absl::StrCat(path, "[", i, "]"),
         absl::StrCat(entries[i], " has bits set beyond its prefix: it means ",
                      first.ToString(), "/", range->prefix, ", or use ",
                      range->base.ToString(), " for this address alone"));
  }
}

}  // namespace hotline::server
