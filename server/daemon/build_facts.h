// What this build is made of.
#ifndef HOTLINE_SERVER_DAEMON_BUILD_FACTS_H_
#define HOTLINE_SERVER_DAEMON_BUILD_FACTS_H_

#include <string>
#include <utility>
#include <vector>

namespace hotline::server {

// The commit, and the versions of the libraries in use: {"commit",
// "2f9c01d4e8ab"}, {"nghttp2", "1.52.0"}.
std::vector<std::pair<std::string, std::string>> BuildFacts();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_BUILD_FACTS_H_
