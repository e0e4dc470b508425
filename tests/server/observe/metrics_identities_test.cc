#include "server/observe/metrics_identities.h"

#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using std::chrono::seconds;

class IdentityFoldTest : public testing::Test {
 protected:
  // Label to calls.
  std::map<std::string, uint64_t> Scrape(Duration later = seconds(15)) {
    now_ += later;
    std::vector<IdentityUsage> usage = {dropped_};
    for (const auto& [name, row] : used_) usage.push_back(row);
    std::map<std::string, uint64_t> page;
    for (const IdentityUsage& row : fold_.Fold(usage, now_)) {
      EXPECT_TRUE(page.emplace(row.name, row.calls).second) << row.name;
    }
    return page;
  }

  void Call(const std::string& name, uint64_t calls) {
    used_[name].name = name;
    used_[name].calls += calls;
  }
  // As IdentityTable drops an identity that is no longer connected.
  void Drop(const std::string& name) {
    dropped_.calls += used_[name].calls;
    used_.erase(name);
  }

  Instant now_{std::chrono::hours(1)};
  IdentityUsage dropped_;
  std::map<std::string, IdentityUsage> used_;
  IdentityFold fold_{2};
};

TEST_F(IdentityFoldTest, TheBusiestGetTheSeriesAndOthersFold) {
  Call("a", 1);
  Call("b", 3);
  Call("c", 2);
  auto page = Scrape();
  EXPECT_EQ(page, (std::map<std::string, uint64_t>{
                      {"b", 3}, {"c", 2}, {"other", 1}}));
  Call("a", 100);
  page = Scrape();
  EXPECT_EQ(page, (std::map<std::string, uint64_t>{
                      {"b", 3}, {"c", 2}, {"other", 101}}));
}

TEST_F(IdentityFoldTest, AQuietIdentityLosesItsSeriesToOneThatWaits) {
  Call("a", 5);
  Call("b", 5);
  Scrape();
  EXPECT_EQ(Scrape(IdentityFold::kQuiet).size(), 3u) << "nobody waits";
  Call("a", 1);
  Call("c", 7);
  auto page = Scrape();
  EXPECT_EQ(page, (std::map<std::string, uint64_t>{
                      {"a", 6}, {"c", 7}, {"other", 5}}));
  // It starts from zero when it comes back.
  Call("b", 2);
  page = Scrape(IdentityFold::kQuiet);
  EXPECT_EQ(page.size(), 3u);
  EXPECT_EQ(page.count("b"), 1u);
  EXPECT_LE(page["b"], 2u);
}

TEST_F(IdentityFoldTest, CountersOnlyGrowWhenIdentitiesAreDroppedAndComeBack) {
  Call("a", 5);
  Scrape();
  Call("a", 1);
  Drop("a");
  auto page = Scrape();
  EXPECT_EQ(page["a"], 5u);
  EXPECT_EQ(page["other"], 1u);
  Call("a", 2);
  page = Scrape();
  EXPECT_EQ(page["a"], 7u);
  EXPECT_EQ(page["other"], 1u);
}

}  // namespace
}  // namespace hotline::server
