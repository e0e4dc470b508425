// The page at "/": the state of the pool, for a browser or curl.
#ifndef HOTLINE_SERVER_OBSERVE_STATUS_PAGE_H_
#define HOTLINE_SERVER_OBSERVE_STATUS_PAGE_H_

#include <string>

#include "pool/snapshot.h"

namespace hotline::server {

// A line of totals and a table of the targets, busiest first, as plain text.
std::string StatusPage(const pool::Snapshot& snapshot,
                       const std::string& version);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_STATUS_PAGE_H_
