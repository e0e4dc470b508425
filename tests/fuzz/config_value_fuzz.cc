#include <chrono>
#include <string>
#include <string_view>

#include "server/config/values.h"
#include "tests/fuzz/targets.h"

namespace hotline::fuzz {

void FuzzConfigValue(std::string_view input) {
  if (const auto length = server::ParseDuration(input)) {
    const auto century = std::chrono::hours(24 * 365 * 100);
    const auto most = century + std::chrono::seconds(1);
    HOTLINE_PROMISE(*length <= most && *length >= -most);
    const std::string text = server::FormatDuration(*length);
    HOTLINE_PROMISE(server::ParseDuration(text) == *length);
    HOTLINE_PROMISE(input.starts_with('-') || *length >= Duration(0));
  }
  std::string wrong;
  const auto bytes = server::ParseSize(input, &wrong);
  HOTLINE_PROMISE(bytes.has_value() == wrong.empty());
  HOTLINE_PROMISE(!bytes || *bytes >= 0);
  HOTLINE_PROMISE(!bytes || input.ends_with('B'));
}

}  // namespace hotline::fuzz
