// The screen of `hotline top`, as text.
#ifndef HOTLINE_CLIENT_CLI_TOP_VIEW_H_
#define HOTLINE_CLIENT_CLI_TOP_VIEW_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// What the rows are sorted by: "problems", the worst first, and figures, the
// highest first. The first letters differ.
const std::vector<std::string>& TopSortKeys();

struct TopFrame {
  const v1::StatsResponse& now;
  // The poll before, for rates; null, or of another process: none.
  const v1::StatsResponse* before = nullptr;
  Duration between{};  // The time between the two.
  Duration wall{};     // The wall clock's time since the epoch.
  std::string_view sort = "problems";
  size_t columns = 80;  // At least 40.
  size_t lines = 0;     // 0: no limit.
  bool color = false;
};

// The totals, and a row per target with as many columns as fit, ending with
// what is wrong with it. No line is longer than `columns` characters, and the
// last one has no newline.
std::string FormatTop(const TopFrame& frame);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_TOP_VIEW_H_
