#include "server/front/assembly.h"

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

struct Member final : public Assembly::Member {
  void OnAssemblyRoom() override { ++told; }
  int told = 0;
};

TEST(AssemblyTest, AdmitsUpToItsLimit) {
  Assembly assembly(100);
  Member a, b;
  EXPECT_TRUE(assembly.Take(&a, 60));
  EXPECT_TRUE(assembly.Take(&b, 40));
  EXPECT_EQ(assembly.bytes(), 100u);
}

TEST(AssemblyTest, PastItsLimitOneMemberContinuesAndTheOthersWait) {
  Assembly assembly(100);
  Member a, b, c;
  EXPECT_TRUE(assembly.Take(&a, 90));
  EXPECT_TRUE(assembly.Take(&b, 20)) << "the one";
  EXPECT_FALSE(assembly.Take(&a, 1));
  EXPECT_FALSE(assembly.Take(&c, 1));
  EXPECT_TRUE(assembly.Take(&b, 50));
  assembly.Leave(&b, 70);
  EXPECT_EQ(a.told, 1);
  EXPECT_EQ(c.told, 1);
  EXPECT_EQ(b.told, 0);
  EXPECT_TRUE(assembly.Take(&a, 10));
}

TEST(AssemblyTest, AMemberThatLeftIsNotNotified) {
  Assembly assembly(100);
  Member a, b, c;
  EXPECT_TRUE(assembly.Take(&a, 100));
  EXPECT_TRUE(assembly.Take(&b, 1));
  EXPECT_FALSE(assembly.Take(&c, 1));
  assembly.Leave(&c, 0);
  assembly.Leave(&b, 1);
  EXPECT_EQ(c.told, 0);
}

TEST(AssemblyTest, TheNextMemberContinuesWhenTheFirstIsDone) {
  Assembly assembly(0);
  Member a, b;
  EXPECT_TRUE(assembly.Take(&a, 10));
  EXPECT_FALSE(assembly.Take(&b, 10));
  assembly.Leave(&a, 10);
  EXPECT_EQ(b.told, 1);
  EXPECT_TRUE(assembly.Take(&b, 10));
}

}  // namespace
}  // namespace hotline::server
