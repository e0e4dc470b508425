// Whether an upstream's answer asks for its address to cool down, and for how
// long. Pure.
#ifndef HOTLINE_SERVER_BROKER_COOL_DOWN_H_
#define HOTLINE_SERVER_BROKER_COOL_DOWN_H_

#include <chrono>
#include <optional>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "server/broker/options.h"
#include "upstream/types.h"

namespace hotline::server {

// For how long the address that gave this answer cools down; nothing: not at
// all. `wall` is the time that an HTTP date is compared with.
//
// The length is that of Retry-After, if that is enabled and valid, else
// `settings.length` for a configured status; at least a second and at most
// `settings.max_length`.
std::optional<Duration> CoolFor(const CoolDownSettings& settings, int status,
                                const std::vector<upstream::Header>& headers,
                                std::chrono::system_clock::time_point wall);

// The value of a Retry-After header: seconds, or a date in one of HTTP's three
// formats (zero if it has passed). Nothing: malformed.
std::optional<Duration> RetryAfter(std::string_view value,
                                   std::chrono::system_clock::time_point wall);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_COOL_DOWN_H_
