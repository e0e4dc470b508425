#include "upstream/address/blocks.h"

#include <gtest/gtest.h>

#include <string>

namespace hotline::upstream {
namespace {

using std::chrono::seconds;

constexpr char kTarget[] = "https://a.test:443";
constexpr char kOther[] = "https://b.test:443";

class AddressBlocksTest : public ::testing::Test {
 protected:
  static AddressBlock Block(
      const std::string& range, const std::string& target = "",
      AddressBlock::Kind kind = AddressBlock::Kind::kBlocked) {
    return {.kind = kind, .target = target, .range = *IpRange::Parse(range)};
  }
  std::string Why(const std::string& target, const std::string& address) const {
    return std::string(blocks_.Why(target, *IpAddress::Parse(address), now_));
  }

  Instant now_ = Instant{} + seconds(1000);
  AddressBlocks blocks_;
};

TEST_F(AddressBlocksTest, ABlockWithoutATargetHoldsForEveryTarget) {
  EXPECT_EQ("", Why(kTarget, "192.0.2.1"));
  EXPECT_TRUE(blocks_.Add(Block("192.0.2.0/24"), now_));
  EXPECT_EQ("blocked by an operator", Why(kTarget, "192.0.2.1"));
  EXPECT_EQ("blocked by an operator", Why(kOther, "::ffff:192.0.2.255"));
  EXPECT_EQ("", Why(kTarget, "192.0.3.1"));
}

TEST_F(AddressBlocksTest, ABlockOfATargetHoldsForItAlone) {
  EXPECT_TRUE(blocks_.Add(
      Block("2001:db8::1", kTarget, AddressBlock::Kind::kDrained), now_));
  EXPECT_EQ("drained by an operator", Why(kTarget, "2001:db8::1"));
  EXPECT_EQ("", Why(kOther, "2001:db8::1"));
}

TEST_F(AddressBlocksTest, EachKindTargetAndRangeIsEndedByItself) {
  EXPECT_TRUE(blocks_.Add(Block("192.0.2.1"), now_));
  EXPECT_FALSE(blocks_.Remove(Block("192.0.2.1", kTarget), now_));
  EXPECT_FALSE(blocks_.Remove(Block("192.0.2.0/24"), now_));
  EXPECT_FALSE(blocks_.Remove(
      Block("192.0.2.1", "", AddressBlock::Kind::kDrained), now_));
  EXPECT_TRUE(blocks_.Remove(Block("::ffff:192.0.2.1/128"), now_));
  EXPECT_FALSE(blocks_.Remove(Block("192.0.2.1"), now_));
  EXPECT_EQ("", Why(kTarget, "192.0.2.1"));
}

TEST_F(AddressBlocksTest, ARangeIsTheSameWithAndWithoutHostBits) {
  EXPECT_TRUE(blocks_.Add(Block("192.0.2.77/24"), now_));
  EXPECT_TRUE(blocks_.Add(Block("192.0.2.0/24"), now_));
  EXPECT_EQ(1u, blocks_.All(now_).size());
  EXPECT_TRUE(blocks_.Remove(Block("192.0.2.1/24"), now_));
}

TEST_F(AddressBlocksTest, ALaterBlockOfTheSameRangeSetsItsTime) {
  AddressBlock block = Block("192.0.2.1");
  block.until = now_ + seconds(5);
  EXPECT_TRUE(blocks_.Add(block, now_));
  block.until = now_ + seconds(10);
  EXPECT_TRUE(blocks_.Add(block, now_));
  now_ += seconds(9);
  EXPECT_EQ("blocked by an operator", Why(kTarget, "192.0.2.1"));
  now_ += seconds(1);
  EXPECT_EQ("", Why(kTarget, "192.0.2.1"));
  EXPECT_TRUE(blocks_.All(now_).empty());
  EXPECT_FALSE(blocks_.Remove(block, now_));
}

TEST_F(AddressBlocksTest, TheirNumberIsBounded) {
  AddressBlock block = Block("10.0.0.0");
  block.until = now_ + seconds(1);
  for (size_t i = 0; i < AddressBlocks::kMost; ++i) {
    block.range.base = IpAddress::V4(10, 0, static_cast<uint8_t>(i / 256),
                                     static_cast<uint8_t>(i % 256));
    ASSERT_TRUE(blocks_.Add(block, now_));
  }
  EXPECT_FALSE(blocks_.Add(Block("192.0.2.1"), now_));
  EXPECT_TRUE(blocks_.Add(block, now_)) << "it replaces one";
  now_ += seconds(1);
  EXPECT_TRUE(blocks_.Add(Block("192.0.2.1"), now_)) << "the others ended";
}

}  // namespace
}  // namespace hotline::upstream
