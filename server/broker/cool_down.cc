#include "server/broker/cool_down.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <ctime>
#include <string>

#include "base/text.h"

namespace hotline::server {
namespace {

using std::chrono::seconds;

constexpr Duration kLeast = seconds(1);
// Longer values are cut to this, which exceeds any configured limit.
constexpr int64_t kMostSeconds = 366 * 24 * 60 * 60;

std::optional<Duration> Seconds(std::string_view text) {
  if (text.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  int64_t value = 0;
  const auto read =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec == std::errc::result_out_of_range) value = kMostSeconds;
  return seconds(std::min(value, kMostSeconds));
}

// A date in one of the three formats that a recipient must accept (RFC 9110,
// 5.6.7), as seconds since the epoch.
std::optional<int64_t> Date(std::string_view text, int64_t wall) {
  const std::string copy(text);
  for (const char* form :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y"}) {
    std::tm parts{};
    const char* const end = strptime(copy.c_str(), form, &parts);
    if (end == nullptr || *end != '\0') continue;
    int64_t when = timegm(&parts);
    // A two-digit year that seems to be far ahead is in the past.
    constexpr int64_t kCentury = int64_t{36525} * 24 * 60 * 60;
    if (form[1] == 'A' && when > wall + kCentury / 2) when -= kCentury;
    return when;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Duration> RetryAfter(std::string_view value,
                                   std::chrono::system_clock::time_point wall) {
  const std::string_view text = Trimmed(value);
  if (text.empty()) return std::nullopt;
  if (auto length = Seconds(text)) return length;
  const int64_t now = std::chrono::system_clock::to_time_t(wall);
  const auto when = Date(text, now);
  if (!when) return std::nullopt;
  return seconds(std::clamp<int64_t>(*when - now, 0, kMostSeconds));
}

std::optional<Duration> CoolFor(const CoolDownSettings& settings, int status,
                                const std::vector<upstream::Header>& headers,
                                std::chrono::system_clock::time_point wall) {
  std::optional<Duration> length;
  const auto& statuses = settings.statuses;
  if (std::find(statuses.begin(), statuses.end(), status) != statuses.end()) {
    length = settings.length;
  }
  const bool may_say = status == 429 || status == 503 || length.has_value();
  if (settings.retry_after && may_say) {
    for (const upstream::Header& header : headers) {
      if (header.name != "retry-after") continue;
      if (const auto said = RetryAfter(header.value, wall)) length = said;
      break;
    }
  }
  if (!length) return std::nullopt;
  return std::min(std::max(*length, kLeast), settings.max_length);
}

}  // namespace hotline::server
