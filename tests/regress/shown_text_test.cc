// Terminal control sequences from callers and upstreams.
//
// A `client_id` or an upstream's error with ESC or CR in it moved the cursor of
// a person who viewed `hotline stats`, the status page or the log, and could
// forge rows there.
//
// Foreign text is escaped by one function (base/text.h) where it is shown. The
// log's tests are in tests/base/log_test.cc, the command line's in
// tests/client/cli_test.cc.
#include <string>

#include "base/text.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "server/broker/error.h"
#include "server/observe/status_page.h"

namespace hotline::server {
namespace {

// C0, DEL, C1 as UTF-8 and as a bare byte, a line end, marks of direction.
const std::string kNasty = "\x1b[2J\r\n\x7f\u009b31m\x9b\u202e\u2066\u200f end";

class ShownTextTest : public ::testing::Test {};

TEST_F(ShownTextTest, TheStatusPageShowsErrorsOfUpstreamsAndObeysNone) {
  pool::Snapshot snapshot;
  pool::TargetRow row;
  row.target = "https://a" + kNasty;
  row.last_dial_error = "error " + kNasty;
  snapshot.targets.push_back(row);
  const std::string page = StatusPage(snapshot, "1");
  std::string lines;
  AppendEscaped(&lines, page, Escape::kLines);
  EXPECT_EQ(page, lines);  // Nothing is left to escape.
  EXPECT_NE(page.find("https://a\\u001b[2J\\r\\n"), std::string::npos) << page;
  EXPECT_NE(page.find("  ! error \\u001b[2J\\r\\n\\u007f\\u009b31m\\x9b\\u202e"
                      "\\u2066\\u200f end\n"),
            std::string::npos)
      << page;
}

TEST_F(ShownTextTest, AnErrorQuotesAnUpstreamAndItsReaderObeysNone) {
  google::rpc::Status status;
  FillStatus(*MakeError(absl::StatusCode::kAborted, "UPSTREAM_RESET",
                        "the proxy said " + kNasty),
             &status);
  EXPECT_EQ(status.message(),
            "the proxy said \\u001b[2J\\r\\n\\u007f\\u009b31m\\x9b\\u202e"
            "\\u2066\\u200f end");
}

}  // namespace
}  // namespace hotline::server
