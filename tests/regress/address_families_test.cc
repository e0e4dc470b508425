// A name that could not be used because half of the answer was missing.
//
// A and AAAA records were queried together, and neither was used before both
// answers had arrived. Name servers and firewalls that drop AAAA queries are
// common: each first call to a name then took the 14 seconds after which the
// query was given up.
//
// Now each family is queried separately. Once one has returned addresses, the
// other one gets 50 ms (RFC 8305); a later answer is added.
#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/fakes/scripted_dns.h"
#include "upstream/address/book.h"
#include "upstream/address/resolver.h"

namespace hotline::upstream {
namespace {

using testing::ScriptedDns;
using Manner = ScriptedDns::Manner;
using Result = Resolver::Result;

std::string Text(const Result& result) {
  if (!result.ok()) return "none";
  std::string text;
  for (const IpAddress& address : result->addresses) {
    text += address.ToString() + " ";
  }
  return text;
}

// What one look-up is told, time after time.
class Told {
 public:
  Resolver::Callback Callback() {
    return [this](Result result) {
      std::lock_guard lock(mu_);
      results_.push_back(std::move(result));
      changed_.notify_all();
    };
  }
  Result Await(size_t count) {
    std::unique_lock lock(mu_);
    // Far below the 14 s after which c-ares gives a question up, for a machine
    // that is busy.
    if (!changed_.wait_for(lock, std::chrono::seconds(8),
                           [&] { return results_.size() >= count; })) {
      return absl::DeadlineExceededError("nothing was told");
    }
    return results_[count - 1];
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<Result> results_;
};

class AddressFamiliesTest : public ::testing::Test {
 protected:
  AddressFamiliesTest() {
    resolver_ = *Resolver::Create(&loop_, {dns_.address()});
    loop_.Start();
  }
  ~AddressFamiliesTest() override {
    loop_.Post([this] {
      resolver_->Shutdown();
      loop_.Finish();
    });
    loop_.Join();
  }
  void Set(Manner v4, Manner v6,
           std::vector<std::string> addresses = {"192.0.2.1", "2001:db8::1"}) {
    dns_.Set(
        "a.test",
        {.addresses = std::move(addresses), .ttl_s = 60, .v4 = v4, .v6 = v6});
  }
  void Ask() { resolver_->Resolve("a.test.", told_.Callback()); }
  std::string Known() {
    const auto known = resolver_->Lookup("a.test.", MonotonicNow());
    return known.has_value() ? Text(*known) : "unknown";
  }

  ScriptedDns dns_{{}};
  net::Loop loop_;
  std::unique_ptr<Resolver> resolver_;
  Told told_;
};

TEST_F(AddressFamiliesTest, AFamilyThatNeverAnswersDelaysNoDialFurther) {
  Set(Manner::kAnswer, Manner::kSilent);
  Ask();
  const Result result = told_.Await(1);
  EXPECT_EQ(Text(result), "192.0.2.1 ");
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->known.v4);
  EXPECT_FALSE(result->known.v6);
}

TEST_F(AddressFamiliesTest, ASilentIpv4DelaysNoDialFurther) {
  Set(Manner::kSilent, Manner::kAnswer);
  Ask();
  EXPECT_EQ(Text(told_.Await(1)), "2001:db8::1 ");
}

TEST_F(AddressFamiliesTest, ALateFamilyIsAdded) {
  Set(Manner::kAnswer, Manner::kHeld);
  Ask();
  EXPECT_EQ(Text(told_.Await(1)), "192.0.2.1 ");
  EXPECT_EQ(Known(), "192.0.2.1 ");
  EXPECT_TRUE(dns_.Release("a.test"));
  const Result whole = told_.Await(2);
  EXPECT_EQ(Text(whole), "192.0.2.1 2001:db8::1 ");
  ASSERT_TRUE(whole.ok());
  EXPECT_TRUE(whole->known.v6);
  EXPECT_EQ(Known(), "192.0.2.1 2001:db8::1 ");
  EXPECT_EQ(dns_.questions("a.test"), 1);
}

TEST_F(AddressFamiliesTest, TheTtlOfALateFamilyCounts) {
  Set(Manner::kAnswer, Manner::kHeld);
  Ask();
  const Result first = told_.Await(1);
  dns_.Set("a.test",
           {.addresses = {"2001:db8::1"}, .ttl_s = 10, .v6 = Manner::kHeld});
  EXPECT_TRUE(dns_.Release("a.test"));
  const Result whole = told_.Await(2);
  ASSERT_TRUE(first.ok() && whole.ok());
  EXPECT_GT(first->until, MonotonicNow() + std::chrono::seconds(20));
  EXPECT_LT(whole->until, MonotonicNow() + std::chrono::seconds(11));
}

TEST_F(AddressFamiliesTest, OneWithoutAddressesDoesNotEndTheWait) {
  Set(Manner::kAnswer, Manner::kHeld, {"2001:db8::1"});
  Ask();
  while (dns_.questions("a.test") == 0 || !dns_.Release("a.test")) {
    std::this_thread::yield();
  }
  EXPECT_EQ(Text(told_.Await(1)), "2001:db8::1 ");
}

TEST_F(AddressFamiliesTest, FailureOfOneDoesNotSpoilTheOther) {
  Set(Manner::kAnswer, Manner::kFails);
  Ask();
  const Result result = told_.Await(1);
  EXPECT_EQ(Text(result), "192.0.2.1 ");
  EXPECT_FALSE(result.ok() && result->known.v6);
}

TEST_F(AddressFamiliesTest, NoSuchNameEndsTheWaitForTheOther) {
  dns_.Set("a.test", {.addresses = {}, .v6 = Manner::kSilent});
  Ask();
  EXPECT_EQ(absl::StatusCode::kUnavailable, told_.Await(1).status().code());
}

TEST_F(AddressFamiliesTest, TwoPromptFamiliesAreOneAnswer) {
  Set(Manner::kAnswer, Manner::kAnswer);
  Ask();
  const Result result = told_.Await(1);
  EXPECT_EQ(Text(result), "192.0.2.1 2001:db8::1 ");
}

// A family that was not answered for is no family without addresses.
TEST(AddressFamilies, AnUnansweredFamilyKeepsItsAddresses) {
  AddressBook book{AddressBookConfig()};
  const auto any = [](const IpAddress&) { return std::string(); };
  const IpAddress v4 = *IpAddress::Parse("192.0.2.1");
  const IpAddress v6 = *IpAddress::Parse("2001:db8::1");
  AddressEvents events;
  Instant now{};
  book.Refresh({v4, v6}, any, now, &events);
  events.clear();
  for (int i = 0; i < 5; ++i) {
    now += std::chrono::minutes(10);
    book.Refresh({v4}, any, now, &events, {.v4 = true, .v6 = false});
  }
  EXPECT_TRUE(events.empty());
  book.Refresh({v4}, any, now, &events);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, AddressEvent::Kind::kSuspect);
}

}  // namespace
}  // namespace hotline::upstream
