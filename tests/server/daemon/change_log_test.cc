#include "server/daemon/change_log.h"

#include <string>
#include <vector>

#include "base/log.h"
#include "gtest/gtest.h"

namespace hotline::server {
namespace {

// The lines, without their times.
std::vector<std::string> Logged(const std::string& before,
                                const std::string& after) {
  std::vector<std::string> lines;
  SetLogSink([&lines](LogLevel, std::string_view line) {
    lines.emplace_back(line.substr(line.find(' ') + 1));
  });
  const auto old = ParseConfig(before, "before", 2);
  const auto now = ParseConfig(after, "after", 2);
  EXPECT_TRUE(old.ok()) << old.status();
  EXPECT_TRUE(now.ok()) << now.status();
  LogChanges(*old, *now);
  SetLogSink(nullptr);
  return lines;
}

TEST(ChangeLogTest, EachChangedKeyIsLoggedWithItsValues) {
  EXPECT_EQ(Logged("pool: {max_connections: 7}", "pool: {shards: 3}"),
            (std::vector<std::string>{
                "info configuration changed key=pool.max_connections before=7 "
                "after=100 needs_restart=false",
                "info configuration changed key=pool.shards before=0 after=3 "
                "needs_restart=true"}));
}

TEST(ChangeLogTest, TextIsLoggedInTheLogsOwnQuotes) {
  EXPECT_EQ(Logged("", "log: {level: debug}\nupstream: {ca_file: '/a b'}"),
            (std::vector<std::string>{
                "info configuration changed key=log.level before=info "
                "after=debug needs_restart=false",
                "info configuration changed key=upstream.ca_file before=\"\" "
                "after=\"/a b\" needs_restart=false"}));
}

TEST(ChangeLogTest, AFileThatMeansTheSameLogsNothing) {
  EXPECT_EQ(Logged("", "pool: {idle_timeout: 0m45s}  # As before.").size(), 0u);
}

TEST(ChangeLogTest, OfManyChangesTheFirstOnesAreLogged) {
  std::string targets = "targets:\n";
  for (int i = 0; i < 100; ++i) {
    targets += "- {target: 'https://t" + std::to_string(i) + ".test'}\n";
  }
  const auto lines = Logged("", targets);
  ASSERT_EQ(lines.size(), 51u);
  EXPECT_TRUE(
      lines[50].starts_with("info configuration changed in further keys keys="))
      << lines[50];
}

}  // namespace
}  // namespace hotline::server
