// The rules about addresses, row by row, with the neighbours just outside.
#include "upstream/address/egress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

#include "base/ip_address.h"

namespace hotline::upstream {
namespace {

IpAddress At(const std::string& text) {
  const auto address = IpAddress::Parse(text);
  EXPECT_TRUE(address.has_value()) << text;
  return address.value_or(IpAddress());
}

EgressPolicy Policy(const EgressRules& rules) {
  auto policy = EgressPolicy::Create(rules);
  EXPECT_TRUE(policy.ok()) << policy.status();
  return *std::move(policy);
}

enum Class { kAlwaysDenied, kNotPublic, kPublic };

struct Row {
  const char* address;
  Class expected;
};

std::ostream& operator<<(std::ostream& out, const Row& row) {
  return out << row.address;
}

class AddressTable : public ::testing::TestWithParam<Row> {};

TEST_P(AddressTable, IsClassedRight) {
  const IpAddress address = At(GetParam().address);
  // What an allow rule cannot open is always denied; what the default lets
  // through is public.
  const EgressPolicy everything = Policy(
      {.default_public = true, .allow = {"0.0.0.0/0", "::/0"}, .deny = {}});
  const EgressPolicy by_default = Policy({});
  const EgressPolicy nothing =
      Policy({.default_public = false, .allow = {}, .deny = {}});
  const Class expected = GetParam().expected;
  EXPECT_EQ(expected != kAlwaysDenied,
            everything.Check("host", address).allowed);
  EXPECT_EQ(expected == kPublic, by_default.Check("host", address).allowed);
  EXPECT_FALSE(nothing.Check("host", address).allowed);
}

INSTANTIATE_TEST_SUITE_P(
    V4, AddressTable,
    ::testing::Values(
        Row{"0.0.0.0", kNotPublic}, Row{"0.255.255.255", kNotPublic},
        Row{"1.0.0.0", kPublic}, Row{"9.255.255.255", kPublic},
        Row{"10.0.0.0", kNotPublic}, Row{"10.255.255.255", kNotPublic},
        Row{"11.0.0.0", kPublic}, Row{"100.63.255.255", kPublic},
        Row{"100.64.0.0", kNotPublic}, Row{"100.100.100.199", kNotPublic},
        Row{"100.100.100.200", kAlwaysDenied},
        Row{"100.100.100.201", kNotPublic}, Row{"100.127.255.255", kNotPublic},
        Row{"100.128.0.0", kPublic}, Row{"126.255.255.255", kPublic},
        Row{"127.0.0.1", kNotPublic}, Row{"127.255.255.255", kNotPublic},
        Row{"128.0.0.0", kPublic}, Row{"169.253.255.255", kPublic},
        Row{"169.254.0.0", kAlwaysDenied},
        Row{"169.254.169.254", kAlwaysDenied},
        Row{"169.254.255.255", kAlwaysDenied}, Row{"169.255.0.0", kPublic},
        Row{"172.15.255.255", kPublic}, Row{"172.16.0.0", kNotPublic},
        Row{"172.31.255.255", kNotPublic}, Row{"172.32.0.0", kPublic},
        Row{"191.255.255.255", kPublic}, Row{"192.0.0.191", kNotPublic},
        Row{"192.0.0.192", kAlwaysDenied}, Row{"192.0.0.193", kNotPublic},
        Row{"168.63.129.15", kPublic}, Row{"168.63.129.16", kAlwaysDenied},
        Row{"168.63.129.17", kPublic}, Row{"192.0.1.0", kPublic},
        Row{"192.167.255.255", kPublic}, Row{"192.168.0.0", kNotPublic},
        Row{"192.168.255.255", kNotPublic}, Row{"192.169.0.0", kPublic},
        Row{"198.17.255.255", kPublic}, Row{"198.18.0.0", kNotPublic},
        Row{"198.20.0.0", kPublic}, Row{"223.255.255.255", kPublic},
        Row{"224.0.0.0", kAlwaysDenied}, Row{"239.255.255.255", kAlwaysDenied},
        Row{"240.0.0.0", kNotPublic}, Row{"255.255.255.254", kNotPublic},
        Row{"255.255.255.255", kAlwaysDenied}));

INSTANTIATE_TEST_SUITE_P(
    V6, AddressTable,
    ::testing::Values(
        Row{"::", kNotPublic}, Row{"::1", kNotPublic},
        Row{"2001:db8::1", kPublic}, Row{"2606:4700::1111", kPublic},
        Row{"fbff:ffff::1", kPublic}, Row{"fc00::", kNotPublic},
        Row{"fd00:ec2::253", kNotPublic}, Row{"fd00:ec2::254", kAlwaysDenied},
        Row{"fd00:ec2::23", kAlwaysDenied}, Row{"fd00:ec2::24", kNotPublic},
        Row{"fd20:ce::254", kAlwaysDenied}, Row{"fd20:ce::253", kNotPublic},
        Row{"fd00:c1::a9fe:a9fe", kAlwaysDenied},
        Row{"fd00:c1::a9fe:a9fd", kNotPublic},
        Row{"fd00:42::42", kAlwaysDenied}, Row{"fd00:42::43", kNotPublic},
        Row{"fdff::1", kNotPublic}, Row{"fe00::1", kPublic},
        Row{"fe7f:ffff::1", kPublic}, Row{"fe80::1", kAlwaysDenied},
        Row{"febf:ffff::1", kAlwaysDenied}, Row{"fec0::1", kNotPublic},
        Row{"ff00::", kAlwaysDenied}, Row{"ff02::1", kAlwaysDenied}));

INSTANTIATE_TEST_SUITE_P(
    Disguised, AddressTable,
    ::testing::Values(
        // Mapped.
        Row{"::ffff:169.254.169.254", kAlwaysDenied},
        Row{"::ffff:224.0.0.1", kAlwaysDenied},
        Row{"::ffff:255.255.255.255", kAlwaysDenied},
        Row{"::ffff:127.0.0.1", kNotPublic}, Row{"::ffff:10.1.2.3", kNotPublic},
        Row{"::ffff:8.8.8.8", kPublic},
        // Compatible and translated.
        Row{"::169.254.169.254", kAlwaysDenied}, Row{"::10.0.0.1", kNotPublic},
        Row{"::ffff:0:169.254.169.254", kAlwaysDenied},
        // NAT64.
        Row{"64:ff9b::169.254.169.254", kAlwaysDenied},
        Row{"64:ff9b::100.100.100.200", kAlwaysDenied},
        Row{"64:ff9b::192.168.1.1", kNotPublic},
        Row{"64:ff9b::8.8.8.8", kPublic},
        Row{"64:ff9b:1::169.254.169.254", kAlwaysDenied},
        Row{"64:ff9b:1:a9fe:a9:fe00::", kAlwaysDenied},
        Row{"64:ff9b:1:a9:fe:a9fe::", kAlwaysDenied},
        Row{"64:ff9b:1:0:a9:fea9:fe00::", kAlwaysDenied},
        Row{"64:ff9a::169.254.169.254", kPublic},
        // 6to4.
        Row{"2002:a9fe:a9fe::1", kAlwaysDenied},
        Row{"2002:6464:64c8::", kAlwaysDenied},
        Row{"2002:7f00:1::", kNotPublic}, Row{"2002:808:808::1", kPublic},
        Row{"2003:a9fe:a9fe::1", kPublic},
        // Teredo: the server's address, and the client's inverted.
        Row{"2001:0:a9fe:a9fe::", kAlwaysDenied},
        Row{"2001:0:808:808:0:0:5601:5601", kAlwaysDenied},
        Row{"2001:0:808:808:0:0:f7f7:f7f7", kNotPublic},
        Row{"2001:1:a9fe:a9fe::", kPublic}));

// In every form that leads to it.
TEST(Egress, NoDisguiseLeadsToAMetadataService) {
  const EgressPolicy everything = Policy(
      {.default_public = true, .allow = {"0.0.0.0/0", "::/0"}, .deny = {}});
  for (const char* address :
       {"169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200"}) {
    const IpAddress v4 = At(address);
    const auto with = [&](const char* prefix, int at) {
      IpAddress out = At(prefix);
      std::copy_n(v4.bytes.begin(), 4, out.bytes.begin() + at);
      return out;
    };
    const IpAddress disguises[] = {
        v4,
        with("::ffff:0:0", 12),
        with("::", 12),
        with("::ffff:0:0:0", 12),
        with("64:ff9b::", 12),
        with("64:ff9b:1::", 12),
        with("64:ff9b:1:ffff:ffff:ffff::", 12),
        with("2002::1", 2),
        with("2001:0:808:808::", 4),
        with("2001:db8::5efe:0:0", 12),
        with("2001:db8::200:5efe:0:0", 12),
    };
    for (const IpAddress& disguise : disguises) {
      const auto found = everything.Check("host", disguise);
      EXPECT_FALSE(found.allowed) << disguise.ToString();
      EXPECT_EQ(0u, found.rule.find("always denied: ")) << found.rule;
      EXPECT_FALSE(everything.CheckChosen("host", disguise).allowed);
      EXPECT_FALSE(everything.CheckBehindProxy(disguise.ToString()).allowed);
    }
  }
  EXPECT_EQ("always denied: Azure (WireServer)",
            everything.Check("host", At("168.63.129.16")).rule);
}

TEST(Egress, DenyGoesBeforeAllow) {
  const EgressPolicy policy = Policy({.default_public = true,
                                      .allow = {"10.0.0.0/8"},
                                      .deny = {"10.1.0.0/16", "8.8.8.8"}});
  EXPECT_TRUE(policy.Check("host", At("10.2.0.1")).allowed);
  EXPECT_FALSE(policy.Check("host", At("10.1.0.1")).allowed);
  EXPECT_FALSE(policy.Check("host", At("8.8.8.8")).allowed);
  EXPECT_FALSE(policy.Check("host", At("::ffff:8.8.8.8")).allowed);
  EXPECT_FALSE(policy.Check("host", At("64:ff9b::8.8.8.8")).allowed);
  EXPECT_TRUE(policy.Check("host", At("8.8.8.9")).allowed);
  EXPECT_EQ("egress.deny", policy.Check("host", At("10.1.0.1")).rule);
  EXPECT_EQ("egress.allow", policy.Check("host", At("10.2.0.1")).rule);
}

TEST(Egress, HostRulesMatchWholeLabels) {
  const EgressPolicy policy = Policy({.default_public = false,
                                      .allow = {"*.example.com", "One.Example"},
                                      .deny = {"bad.example.com"}});
  const IpAddress address = At("10.0.0.1");
  EXPECT_TRUE(policy.Check("api.example.com", address).allowed);
  EXPECT_TRUE(policy.Check("a.b.EXAMPLE.com.", address).allowed);
  EXPECT_TRUE(policy.Check("one.example", address).allowed);
  EXPECT_FALSE(policy.Check("example.com", address).allowed);
  EXPECT_FALSE(policy.Check("notexample.com", address).allowed);
  EXPECT_FALSE(policy.Check("example.com.evil", address).allowed);
  EXPECT_FALSE(policy.Check("two.one.example", address).allowed);
  EXPECT_FALSE(policy.Check("bad.example.com", address).allowed);
  EXPECT_FALSE(policy.Check("api.example.com", At("169.254.1.1")).allowed);
}

TEST(Egress, AllowDoesNotReachInsideADisguise) {
  const EgressPolicy policy =
      Policy({.default_public = true, .allow = {"10.0.0.0/8"}, .deny = {}});
  EXPECT_TRUE(policy.Check("host", At("::ffff:10.0.0.1")).allowed);
  EXPECT_FALSE(policy.Check("host", At("64:ff9b::10.0.0.1")).allowed);
}

TEST(Egress, MappedRangesInRulesMeanV4) {
  const EgressPolicy policy = Policy(
      {.default_public = true, .allow = {"::ffff:10.0.0.0/104"}, .deny = {}});
  EXPECT_TRUE(policy.Check("host", At("10.200.0.1")).allowed);
  EXPECT_FALSE(policy.Check("host", At("192.168.0.1")).allowed);
}

TEST(Egress, RulesThatMeanNothingAreNamed) {
  for (const char* rule :
       {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "300.0.0.1", "::/129",
        "10.0.0.0/-1", "*", "*.", "*.*.com", "a b", "exa*mple.com", ".com",
        "a..b", "http://example.com", "example.com:443", "10.0.0.0/8x"}) {
    const auto policy = EgressPolicy::Create({true, {rule}, {}});
    ASSERT_EQ(absl::StatusCode::kInvalidArgument, policy.status().code())
        << rule;
    EXPECT_NE(std::string::npos, std::string(policy.status().message())
                                     .find("\"" + std::string(rule) + "\""));
    EXPECT_FALSE(EgressPolicy::Create({true, {}, {rule}}).ok()) << rule;
  }
}

TEST(IpAddress, TextIsReadStrictly) {
  for (const char* text :
       {"", "1.2.3", "01.2.3.4x", "1.2.3.4.5", "0x7f.0.0.1", "2130706433",
        "[::1]", "fe80::1%eth0", "::1::", "1.2.3.4 "}) {
    EXPECT_FALSE(IpAddress::Parse(text).has_value()) << text;
  }
  EXPECT_EQ("1.2.3.4:80", At("1.2.3.4").WithPort(80));
  EXPECT_EQ("[2001:db8::1]:443", At("2001:DB8:0::1").WithPort(443));
}

}  // namespace
}  // namespace hotline::upstream
