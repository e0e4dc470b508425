#include "server/identity.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

TEST(IdentityTest, TheBestNameOfACertificateIsWhoItIs) {
  EXPECT_EQ(
      NameOfCertificate({"https://x", "spiffe://prod/a"}, {"a.test"}, "a"),
      "spiffe://prod/a");
  EXPECT_EQ(NameOfCertificate({"https://x"}, {"a.test", "b.test"}, "a"),
            "dns:a.test");
  EXPECT_EQ(NameOfCertificate({}, {}, "Team A"), "cn:Team A");
  EXPECT_EQ(NameOfCertificate({}, {}, ""), "");
}

TEST(IdentityTest, NamesThatCouldPassForOthersAreNone) {
  EXPECT_EQ(NameOfCertificate({"spiffe://a b"}, {}, ""), "");
  EXPECT_EQ(NameOfCertificate({"spiffe://a\n"}, {"a.test"}, ""), "dns:a.test");
  EXPECT_EQ(NameOfCertificate({}, {std::string(3000, 'a')}, ""), "");
  // A prefix belongs to its source: nobody gets a uid by being called so.
  EXPECT_EQ(NameOfCertificate({}, {}, "uid:0"), "cn:uid:0");
}

TEST(IdentityTest, OneObjectForOneNameAndNoNumberTwice) {
  IdentityTable table;
  const IdentityPtr a = table.Get("cn:a");
  const IdentityPtr b = table.Get("cn:b");
  EXPECT_EQ(a, table.Get("cn:a"));
  EXPECT_NE(a->owner, b->owner);
  EXPECT_NE(a->owner, 0u);
  const uint64_t before = table.Get("cn:gone")->owner;
  for (int i = 0; i < 5000; ++i) table.Get("cn:" + std::to_string(i));
  // Whoever nobody spoke of has left, whoever somebody holds has stayed.
  EXPECT_LE(table.size(), 2048u);
  EXPECT_EQ(a, table.Get("cn:a"));
  EXPECT_NE(before, table.Get("cn:gone")->owner);
}

}  // namespace
}  // namespace hotline::server
