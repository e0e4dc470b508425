// Durations and sizes as people write them. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_VALUES_H_
#define HOTLINE_SERVER_CONFIG_VALUES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

namespace hotline::server {

// "45s", "0.5s", "500ms", "1h30m": numbers with the units h, m, s and ms, each
// at most once, the largest first; the last number may have a fraction, of
// whole nanoseconds. "-" before all of it negates it. Lengths beyond a century
// are cut off there. Nothing: not a duration.
std::optional<Duration> ParseDuration(std::string_view text);

// "45s", "0.5s".
std::string FormatDuration(Duration length);

// "64MiB": a whole number with the unit KiB, MiB, GiB (of 1024), KB, MB or GB
// (of 1000). Nothing: `wrong` says why.
std::optional<int64_t> ParseSize(std::string_view text, std::string* wrong);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_VALUES_H_
