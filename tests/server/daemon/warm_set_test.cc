// The warm set: writing, reading, and dialling it after a restart.
#include "server/daemon/warm_set.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kA[] = "https://a.example:443";
constexpr char kB[] = "http://b.example:80";

pool::ConnectionRow Row(const char* target, pool::ConnState state,
                        uint64_t uses, const char* group = "") {
  pool::ConnectionRow row;
  row.key.target = target;
  row.key.options.pool_group = group;
  row.state = state;
  row.uses = uses;
  return row;
}

WarmEntry Entry(const char* target, int connections, uint64_t uses) {
  WarmEntry entry;
  entry.key.target = target;
  entry.connections = connections;
  entry.uses = uses;
  return entry;
}

TEST(WarmSetTest, ListsReadyConnectionsTheBusiestFirst) {
  using pool::ConnState;
  pool::Snapshot snapshot;
  snapshot.connections = {
      Row(kA, ConnState::kReady, 3),        Row(kB, ConnState::kReady, 7),
      Row(kA, ConnState::kProbing, 2),      Row(kA, ConnState::kDialing, 0),
      Row(kA, ConnState::kDraining, 100),   Row(kA, ConnState::kClosing, 100),
      Row(kA, ConnState::kReady, 20, "own")};
  const auto set = WarmSetOf(snapshot);
  ASSERT_EQ(set.size(), 3u);
  EXPECT_EQ(set[0].key.options.pool_group, "own");
  EXPECT_EQ(set[0].uses, 20u);
  EXPECT_EQ(set[1], Entry(kB, 1, 7));
  EXPECT_EQ(set[2], Entry(kA, 2, 5));
}

TEST(WarmSetTest, RoundTripsThroughItsText) {
  std::vector<WarmEntry> set = {Entry(kA, 4, 1000), Entry(kB, 1, 0)};
  set[0].key.options = {"other.example",  "own",       "h2",
                        "modern",         "192.0.2.1", "192.0.2.2",
                        "GET 200-299 /ok"};
  set[1].key.mode = pool::Mode::kExclusive;
  const auto back = ParseWarmSet(FormatWarmSet(set));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, set);
  const auto none = ParseWarmSet(FormatWarmSet({}));
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->empty());
}

TEST(WarmSetTest, AnInvalidFileIsRefusedAsAWhole) {
  const std::string head = R"({"kind": "hotline.v1.WarmSet", "entries": [)";
  const std::string fine =
      R"({"target": "https://a.example", "connections": 1},)";
  for (const std::string& text : {
           std::string(),
           std::string("{}"),
           std::string("\0\x01\xff", 3),
           std::string("pool: {}"),
           std::string(R"({"kind": "other"})"),
           head,
           head + fine,
           head + fine + "]",
           head + fine + R"({"target": "ftp://a", "connections": 1}]})",
           head + fine + R"({"target": "https://a.example"}]})",
           head + fine +
               R"({"target": "https://a.example", "connections": -1}]})",
           head + fine +
               R"({"target": "https://b", "connections": 1, "secret": 2}]})",
           head + fine + R"({"target": "http://b", "connections": 1,
                             "options": {"alpn": "h2"}}]})",
           head + fine + R"({"target": "https://b", "connections": 1,
                             "uses": "-1"}]})",
       }) {
    const auto parsed = ParseWarmSet(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_FALSE(ParseWarmSet(std::string(kMostWarmSetBytes + 1, ' ')).ok());
}

TEST(WarmSetTest, AFileIsReplacedWholeOrNotAtAll) {
  const std::string directory = std::getenv("TEST_TMPDIR");
  const std::string path = directory + "/warm";
  EXPECT_TRUE(absl::IsNotFound(LoadWarmSet(path).status()));
  ASSERT_TRUE(ReplaceFile(path, FormatWarmSet({Entry(kA, 2, 3)})).ok());
  ASSERT_TRUE(ReplaceFile(path, FormatWarmSet({Entry(kB, 1, 1)})).ok());
  const auto set = LoadWarmSet(path);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(*set, (std::vector<WarmEntry>{Entry(kB, 1, 1)}));
  EXPECT_FALSE(std::ifstream(path + ".tmp").good()) << "nothing is left";
  EXPECT_FALSE(ReplaceFile(directory + "/none/warm", "x").ok());
  // The path is a directory; no temporary file is left beside it.
  EXPECT_FALSE(ReplaceFile(directory, "x").ok());
  EXPECT_FALSE(std::ifstream(directory + ".tmp").good());
}

// A pool whose dials succeed if the target is reachable.
class RewarmerTest : public ::testing::Test {
 protected:
  Rewarmer Make(std::vector<WarmEntry> entries, int dials_per_second) {
    return Rewarmer(std::move(entries), dials_per_second, seconds(10), now_,
                    [this](const pool::HostPoolKey& key, int connections,
                           int most, Instant) {
                      int& there = there_[key.target];
                      const int begun =
                          reachable_ ? std::min(most, connections - there) : 0;
                      there += begun;
                      for (int i = 0; i < begun; ++i) order_ += key.target[8];
                      return pool::PrewarmResult{begun, connections - there};
                    });
  }
  Instant Pass(Rewarmer* rewarmer, Duration time) {
    now_ += time;
    return rewarmer->Step(now_);
  }

  Instant now_ = Instant{} + seconds(100);
  std::map<std::string, int> there_;
  std::string order_;
  bool reachable_ = true;
};

TEST_F(RewarmerTest, DialsInOrderAtItsRate) {
  Rewarmer rewarmer =
      Make({Entry("https://a", 3, 9), Entry("https://b", 2, 1)}, 2);
  EXPECT_EQ(rewarmer.wanted(), 5);
  rewarmer.Step(now_);
  EXPECT_EQ(order_, "a");
  Pass(&rewarmer, milliseconds(499));
  EXPECT_EQ(order_, "a");
  Pass(&rewarmer, milliseconds(1));
  EXPECT_EQ(order_, "aa");
  Pass(&rewarmer, seconds(1));
  EXPECT_EQ(order_, "aaab");
  EXPECT_FALSE(rewarmer.done());
  EXPECT_EQ(rewarmer.missing(), 1);
  EXPECT_EQ(Pass(&rewarmer, seconds(5)), kNever);
  EXPECT_EQ(order_, "aaabb");
  EXPECT_TRUE(rewarmer.done());
  EXPECT_EQ(rewarmer.missing(), 0);
}

TEST_F(RewarmerTest, ALateStepDialsNoMoreThanOneSecondsShare) {
  Rewarmer rewarmer = Make({Entry("https://a", 100, 0)}, 10);
  Pass(&rewarmer, seconds(9));
  EXPECT_EQ(order_.size(), 10u);
}

TEST_F(RewarmerTest, GivesUpAtItsTimeLimit) {
  reachable_ = false;
  Rewarmer rewarmer = Make({Entry("https://a", 3, 0)}, 10);
  for (int i = 0; i < 9; ++i) {
    EXPECT_LT(Pass(&rewarmer, seconds(1)), kNever);
  }
  EXPECT_EQ(Pass(&rewarmer, seconds(1)), kNever);
  EXPECT_TRUE(rewarmer.done());
  EXPECT_EQ(rewarmer.missing(), 3);
}

TEST_F(RewarmerTest, AnEmptySetIsDoneAtOnce) {
  Rewarmer rewarmer = Make({}, 10);
  EXPECT_TRUE(rewarmer.done());
  EXPECT_EQ(rewarmer.Step(now_), kNever);
}

}  // namespace
}  // namespace hotline::server
