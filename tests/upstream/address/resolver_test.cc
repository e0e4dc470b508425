// Names to addresses, against a DNS server of the test's own.
#include "upstream/address/resolver.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <vector>

#include "tests/fakes/scripted_dns.h"

namespace hotline::upstream {
namespace {

using hotline::testing::ScriptedDns;
using std::chrono::minutes;
using std::chrono::seconds;
using Result = Resolver::Result;

class ResolverTest : public ::testing::Test {
 protected:
  ResolverTest() {
    auto made = Resolver::Create(&loop_, {dns_.address()});
    EXPECT_TRUE(made.ok()) << made.status();
    resolver_ = *std::move(made);
    loop_.Start();
  }
  ~ResolverTest() override { Finish(); }

  void Finish() {
    loop_.Post([this] {
      resolver_->Shutdown();
      loop_.Finish();
    });
    loop_.Join();
  }
  std::future<Result> Ask(const std::string& host) {
    auto promise = std::make_shared<std::promise<Result>>();
    resolver_->Resolve(host, [promise](Result result) {
      promise->set_value(std::move(result));
    });
    return promise->get_future();
  }
  std::string Addressed(const std::string& host) {
    return Text(Ask(host).get());
  }
  static std::string Text(const Result& result) {
    if (!result.ok()) return std::string(result.status().message());
    std::string text;
    for (const IpAddress& address : result->addresses)
      text += address.ToString() + " ";
    return text;
  }
  bool Knows(const std::string& host, Duration from_now) {
    return resolver_->Lookup(host, MonotonicNow() + from_now).has_value();
  }

  ScriptedDns dns_{{
      {"one.test", {{"192.0.2.1"}, 60}},
      {"short.test", {{"192.0.2.2"}, 0}},
      {"long.test", {{"192.0.2.3"}, 1'000'000}},
      {"both.test", {{"192.0.2.4", "2001:db8::4"}, 60}},
      {"silent.test", {.addresses = {}, .ttl_s = 0, .silent = true}},
  }};
  net::Loop loop_;
  std::unique_ptr<Resolver> resolver_;
};

TEST_F(ResolverTest, NameIsResolvedAndKept) {
  EXPECT_FALSE(Knows("one.test", seconds(0)));
  EXPECT_EQ("192.0.2.1 ", Addressed("one.test"));
  EXPECT_EQ("192.0.2.1 ", Addressed("ONE.test"));
  EXPECT_EQ(1, dns_.questions("one.test"));
  // With a dot at its end it is another name, though not on the wire.
  EXPECT_EQ("192.0.2.1 ", Addressed("one.test."));
  EXPECT_EQ(2, dns_.questions("one.test"));
  EXPECT_TRUE(Knows("one.test", seconds(59)));
  EXPECT_FALSE(Knows("one.test", seconds(61)));
}

TEST_F(ResolverTest, AnswersAreCountedByResultAndTimed) {
  Addressed("one.test");
  Addressed("one.test");  // From the cache.
  Addressed("localhost");
  Addressed("absent.test");
  const DnsCounters counters = resolver_->counters();
  EXPECT_EQ(1u, counters.ok);
  EXPECT_EQ(1u, counters.no_address);
  EXPECT_EQ(0u, counters.failed);
  EXPECT_EQ(2u, counters.seconds.total());
}

TEST_F(ResolverTest, BothFamiliesAreResolved) {
  const Result result = Ask("both.test").get();
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(2u, result->addresses.size());
  EXPECT_NE(result->addresses[0].v6, result->addresses[1].v6);
}

TEST_F(ResolverTest, TtlIsAtLeastFiveSeconds) {
  Addressed("short.test");
  EXPECT_TRUE(Knows("short.test", std::chrono::milliseconds(4500)));
  EXPECT_FALSE(Knows("short.test", seconds(6)));
}

TEST_F(ResolverTest, TtlIsAtMostHalfAnHour) {
  Addressed("long.test");
  EXPECT_TRUE(Knows("long.test", minutes(29)));
  EXPECT_FALSE(Knows("long.test", minutes(31)));
}

TEST_F(ResolverTest, FailureSaysWhyAndIsKeptForASecond) {
  const std::string message = Addressed("later.test");
  EXPECT_NE(std::string::npos, message.find("later.test")) << message;
  const Instant failed = MonotonicNow();
  dns_.Set("later.test", {{"192.0.2.9"}, 60});
  const auto known = resolver_->Lookup("later.test", failed);
  ASSERT_TRUE(known.has_value());
  EXPECT_EQ(message, Text(*known));
  EXPECT_EQ(1, dns_.questions("later.test"));
  EXPECT_FALSE(Knows("later.test", seconds(1)));
  while (Knows("later.test", seconds(0))) std::this_thread::yield();
  EXPECT_EQ("192.0.2.9 ", Addressed("later.test"));
}

TEST_F(ResolverTest, LookUpsAtTheSameTimeAreOneQuestion) {
  std::vector<std::future<Result>> asked;
  // Held back, so that all of them come before the answer.
  std::promise<void> go;
  loop_.Post([&] { go.get_future().wait(); });
  for (int i = 0; i < 50; ++i) asked.push_back(Ask("one.test"));
  go.set_value();
  for (auto& one : asked) EXPECT_EQ("192.0.2.1 ", Text(one.get()));
  EXPECT_EQ(1, dns_.questions("one.test"));
}

TEST_F(ResolverTest, AddressesAndLocalhostNeedNoDns) {
  const Instant now = MonotonicNow();
  EXPECT_EQ("192.0.2.7 ", Text(*resolver_->Lookup("192.0.2.7", now)));
  EXPECT_EQ("2001:db8::7 ", Text(*resolver_->Lookup("2001:DB8::7", now)));
  EXPECT_EQ("127.0.0.1 ::1 ", Text(*resolver_->Lookup("LocalHost.", now)));
  EXPECT_EQ("127.0.0.1 ::1 ", Text(*resolver_->Lookup("a.localhost", now)));
}

TEST_F(ResolverTest, ShutdownEndsWhatIsUnderWay) {
  auto asked = Ask("silent.test");
  while (dns_.questions("silent.test") == 0) std::this_thread::yield();
  Finish();
  EXPECT_EQ(absl::StatusCode::kCancelled, asked.get().status().code());
}

TEST(ResolverServers, AreReadStrictly) {
  net::Loop loop;
  for (const char* good :
       {"192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:53"}) {
    EXPECT_TRUE(Resolver::Create(&loop, {good}).ok()) << good;
  }
  for (const char* bad : {"", "dns.example", "192.0.2.53:", "192.0.2.53:0",
                          "192.0.2.53:65536", "[2001:db8::53]", "1.2.3:53"}) {
    const auto made = Resolver::Create(&loop, {"192.0.2.1", bad});
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, made.status().code()) << bad;
  }
}

}  // namespace
}  // namespace hotline::upstream
