// What a client wants, by the Accept and Accept-Encoding of its request.
//
// Pure.
#ifndef HOTLINE_SERVER_OBSERVE_NEGOTIATION_H_
#define HOTLINE_SERVER_OBSERVE_NEGOTIATION_H_

#include <string>
#include <string_view>

#include "server/observe/metrics.h"

namespace hotline::server {

// OpenMetrics only if `accept` names it and does not prefer plain text.
MetricsFormat FormatFor(std::string_view accept);

// Whether `accept_encoding` allows gzip.
bool AcceptsGzip(std::string_view accept_encoding);

// `text` in gzip's format, compressed for speed.
std::string Gzip(std::string_view text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_NEGOTIATION_H_
