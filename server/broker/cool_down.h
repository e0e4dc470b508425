// When an upstream's answer asks for a rest, and for how long.
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

// For how long the address that gave this answer is to be left alone; nothing:
// it is not. Pure: `wall` is the time that an HTTP date is held against.
//
// Of a configured status the length is what Retry-After says (where that
// counts, and makes sense), else `length`; never more than `max_length`, and at
// least a second.
std::optional<Duration> CoolFor(const CoolDownSettings& settings, int status,
                                const std::vector<upstream::Header>& headers,
                                std::chrono::system_clock::time_point wall);

// A Retry-After header's value: seconds, or a date of any of HTTP's three
// forms; a date that has passed is zero. Nothing: neither.
std::optional<Duration> RetryAfter(std::string_view value,
                                   std::chrono::system_clock::time_point wall);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_COOL_DOWN_H_
