#include "server/broker/identity.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

TEST(IdentityTest, TheBestNameOfACertificateIsTheIdentity) {
  EXPECT_EQ(NameOfCertificate({"spiffe://prod/a"}, {"a.test"}, "a"),
            "spiffe://prod/a");
  EXPECT_EQ(NameOfCertificate({"https://x"}, {"a.test", "b.test"}, "a"),
            "dns:a.test");
  EXPECT_EQ(NameOfCertificate({}, {}, "Team A"), "cn:Team A");
  EXPECT_EQ(NameOfCertificate({}, {}, ""), "");
}

TEST(IdentityTest, AcceptsSpiffeIdsByTheSpecificationOnly) {
  const std::string prefix = "spiffe://prod/";
  for (const std::string& good :
       {prefix + "a", prefix + "ns/pay/sa/web-1_2.3", prefix + "...",
        prefix + "A/b", prefix + ".a/b.",
        "spiffe://" + std::string(255, 'a') + "/a",
        std::string("spiffe://a-b_c.1/x"),
        prefix + std::string(2048 - prefix.size(), 'a')}) {
    EXPECT_TRUE(IsSpiffeId(good)) << good;
    EXPECT_EQ(NameOfCertificate({good}, {"a.test"}, ""), good);
  }
  for (const std::string& bad :
       {prefix,
        prefix + "a/../b",
        prefix + "../b",
        prefix + "a/..",
        prefix + "./a",
        prefix + "a/./b",
        prefix + "a//b",
        prefix + "/a",
        prefix + "a/",
        prefix + "a%2f..%2fb",
        prefix + "a?b",
        prefix + "a#b",
        prefix + "a b",
        prefix + "a*",
        prefix + "a\n",
        prefix + "\xc3\xa9",
        prefix + std::string("a\0b", 3),
        std::string("spiffe://prod"),
        std::string("spiffe:///a"),
        std::string("spiffe://Prod/a"),
        std::string("spiffe://prod:8443/a"),
        std::string("spiffe://u@prod/a"),
        std::string("spiffe://pro%64/a"),
        std::string("SPIFFE://prod/a"),
        std::string("spiffe:/prod/a"),
        std::string("https://prod/a"),
        "spiffe://" + std::string(256, 'a') + "/a",
        prefix + std::string(2049 - prefix.size(), 'a')}) {
    EXPECT_FALSE(IsSpiffeId(bad)) << bad;
    EXPECT_EQ(NameOfCertificate({bad}, {"a.test"}, ""), "dns:a.test") << bad;
  }
}

TEST(IdentityTest, ACertificateOfTwoUrisHasNoSpiffeId) {
  for (const char* other :
       {"https://x", "spiffe://prod/b", "spiffe://prod/a"}) {
    EXPECT_EQ(NameOfCertificate({"spiffe://prod/a", other}, {"a.test"}, ""),
              "dns:a.test");
    EXPECT_EQ(NameOfCertificate({other, "spiffe://prod/a"}, {}, ""), "");
  }
}

TEST(IdentityTest, NamesThatCouldImitateOthersAreRejected) {
  EXPECT_EQ(NameOfCertificate({"spiffe://a b"}, {}, ""), "");
  EXPECT_EQ(NameOfCertificate({"spiffe://a\n"}, {"a.test"}, ""), "dns:a.test");
  EXPECT_EQ(NameOfCertificate({}, {std::string(3000, 'a')}, ""), "");
  EXPECT_EQ(NameOfCertificate({}, {"a/../b", "a.test"}, ""), "dns:a.test");
  EXPECT_EQ(NameOfCertificate({}, {"\xff.test"}, ""), "");
  EXPECT_EQ(NameOfCertificate({}, {}, "a\x1b[2J"), "");
  EXPECT_EQ(NameOfCertificate({}, {}, "a\r\nb"), "");
  // A certificate cannot claim a uid by its common name.
  EXPECT_EQ(NameOfCertificate({}, {}, "uid:0"), "cn:uid:0");
}

TEST(IdentityTest, OneObjectPerNameAndNoOwnerNumberTwice) {
  IdentityTable table;
  const IdentityPtr a = table.Get("cn:a");
  const IdentityPtr b = table.Get("cn:b");
  EXPECT_EQ(a, table.Get("cn:a"));
  EXPECT_NE(a->owner, b->owner);
  EXPECT_NE(a->owner, 0u);
  const uint64_t before = table.Get("cn:gone")->owner;
  for (int i = 0; i < 5000; ++i) table.Get("cn:" + std::to_string(i));
  // Identities that are not in use were dropped, those in use were kept.
  EXPECT_LE(table.size(), 2048u);
  EXPECT_EQ(a, table.Get("cn:a"));
  EXPECT_NE(before, table.Get("cn:gone")->owner);
}

TEST(IdentityTest, UsageOfDroppedIdentitiesIsKeptInTotal) {
  IdentityTable table;
  const IdentityPtr kept = table.Get("cn:kept");
  kept->calls.Add();
  kept->denials += 2;
  table.Get("cn:gone")->calls.Add();
  table.Get("cn:idle");
  EXPECT_EQ(table.Usage().size(), 3u);
  for (int i = 0; i < 5000; ++i) table.Get("cn:" + std::to_string(i));
  const std::vector<IdentityUsage> usage = table.Usage();
  ASSERT_EQ(usage.size(), 2u);
  EXPECT_EQ(usage[0].name, "");
  EXPECT_EQ(usage[0].calls, 1u);
  EXPECT_EQ(usage[0].denials, 0u);
  EXPECT_EQ(usage[1].name, "cn:kept");
  EXPECT_EQ(usage[1].calls, 1u);
  EXPECT_EQ(usage[1].denials, 2u);
}

}  // namespace
}  // namespace hotline::server
