// Books that keep themselves up to date, against a DNS server of the test's
// own.
#include "upstream/address/keeper.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/fakes/eventually.h"
#include "tests/fakes/scripted_dns.h"

namespace hotline::upstream {
namespace {

using hotline::testing::ScriptedDns;
using std::chrono::milliseconds;
using std::chrono::seconds;

class AddressKeeperTest : public ::testing::Test {
 protected:
  AddressKeeperTest() {
    auto made = Resolver::Create(&loop_, {dns_.address()});
    EXPECT_TRUE(made.ok()) << made.status();
    resolver_ = *std::move(made);
    keeper_ = std::make_unique<AddressKeeper>(
        &loop_, resolver_.get(), AddressBookConfig{},
        AddressKeeper::Callbacks{
            .test =
                [this](std::shared_ptr<const pool::HostPoolKey> key,
                       const IpAddress& address, AddressKeeper::TestDone done) {
                  OnTest(key->target, address, std::move(done));
                },
            .egress =
                [](const std::string&) {
                  return [](const IpAddress&) { return std::string(); };
                },
            .drain = [](const std::string&, const IpAddress&) {},
            .changed =
                [this](const std::string& target, const AddressEvent& event) {
                  std::lock_guard lock(mu_);
                  changes_.push_back(target + " " +
                                     std::string(ToString(event.kind)));
                }});
    loop_.Start();
  }
  ~AddressKeeperTest() override {
    keeper_->Shutdown();
    loop_.Post([this] {
      resolver_->Shutdown();
      loop_.Finish();
    });
    loop_.Join();
  }

  void OnTest(const std::string& target, const IpAddress& address,
              AddressKeeper::TestDone done) {
    bool passes;
    {
      std::lock_guard lock(mu_);
      tested_.insert(target + " " + address.ToString());
      passes = !failing_.contains(address.ToString());
    }
    done(passes, passes ? "" : "it does not answer", Duration(0));
  }

  static std::shared_ptr<const pool::HostPoolKey> Key(const std::string& host) {
    auto key = std::make_shared<pool::HostPoolKey>();
    key->target = "http://" + host + ":80";
    return key;
  }
  absl::Status Learn(const std::string& host) {
    const auto known = keeper_->Know(Key(host), host, MonotonicNow());
    if (known) return *known;
    auto told = std::make_shared<std::promise<absl::Status>>();
    keeper_->Await(Key(host), host, [told](absl::Status status) {
      told->set_value(std::move(status));
    });
    return told->get_future().get();
  }
  std::string States(const std::string& host) {
    std::string text;
    for (const AddressRow& row : keeper_->Rows(Key(host)->target)) {
      text += row.address.ToString() + " " + std::string(ToString(row.state)) +
              "; ";
    }
    return text;
  }
  bool AwaitChanges(const std::vector<std::string>& changes) {
    return Eventually([&] {
      std::lock_guard lock(mu_);
      return changes_ == changes;
    });
  }
  bool AwaitStates(const std::string& host, const std::string& states) {
    return Eventually([&] { return States(host) == states; });
  }

  ScriptedDns dns_{{
      {"one.test", {{"192.0.2.1"}, 60}},
      {"two.test", {{"192.0.2.1", "192.0.2.2"}, 60}},
      {"moving.test", {{"192.0.2.1"}, 0}},
  }};
  net::Loop loop_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<AddressKeeper> keeper_;
  std::mutex mu_;
  std::set<std::string> tested_;
  std::set<std::string> failing_;
  std::vector<std::string> changes_;
};

TEST_F(AddressKeeperTest, WhatIsNotKnownIsAwaitedAndThenKnown) {
  EXPECT_FALSE(keeper_->Know(Key("one.test"), "one.test", MonotonicNow()));
  EXPECT_TRUE(Learn("one.test").ok());
  EXPECT_EQ("192.0.2.1 ACTIVE; ", States("one.test"));
  const auto known = keeper_->Know(Key("one.test"), "one.test", MonotonicNow());
  ASSERT_TRUE(known.has_value());
  EXPECT_TRUE(known->ok());
  EXPECT_EQ(1, dns_.questions("one.test"));
}

TEST_F(AddressKeeperTest, AFailureIsToldAndLeavesNothing) {
  EXPECT_EQ(absl::StatusCode::kUnavailable, Learn("nowhere.test").code());
  EXPECT_EQ("", States("nowhere.test"));
}

TEST_F(AddressKeeperTest, NamesAreResolvedAgainWithoutAnybodyAsking) {
  ASSERT_TRUE(Learn("moving.test").ok());
  dns_.Set("moving.test", {{"192.0.2.7"}, 0});
  EXPECT_TRUE(
      AwaitStates("moving.test", "192.0.2.1 SUSPECT; 192.0.2.7 ACTIVE; "))
      << States("moving.test");
}

TEST_F(AddressKeeperTest, DoubtsAreTestedAndWhatTheTestsSayCounts) {
  failing_ = {"192.0.2.2"};
  ASSERT_TRUE(Learn("two.test").ok());
  const std::string target = Key("two.test")->target;
  const auto ticket = keeper_->Dialling(target, IpAddress::V4(192, 0, 2, 2));
  EXPECT_NE(0u, ticket.epoch);
  keeper_->DialFailed(target, ticket, "refused", MonotonicNow());
  EXPECT_TRUE(AwaitStates("two.test", "192.0.2.1 ACTIVE; 192.0.2.2 EJECTED; "))
      << States("two.test");
  std::lock_guard lock(mu_);
  EXPECT_EQ(std::set<std::string>{target + " 192.0.2.2"}, tested_);
}

TEST_F(AddressKeeperTest, ABlockTakesMembersOutAtOnceUntilItIsEnded) {
  ASSERT_TRUE(Learn("two.test").ok());
  ASSERT_TRUE(Learn("one.test").ok());
  const AddressBlock block{.target = Key("two.test")->target,
                           .range = *IpRange::Parse("192.0.2.1")};
  const Instant now = MonotonicNow();
  ASSERT_TRUE(keeper_->Block(block, now));
  EXPECT_EQ("192.0.2.1 DENIED; 192.0.2.2 ACTIVE; ", States("two.test"));
  EXPECT_EQ("blocked by an operator",
            keeper_->Rows(Key("two.test")->target)[0].why);
  EXPECT_EQ("192.0.2.1 ACTIVE; ", States("one.test"));
  EXPECT_TRUE(keeper_->Unblock(block, now));
  EXPECT_EQ("192.0.2.1 ACTIVE; 192.0.2.2 ACTIVE; ", States("two.test"));
  EXPECT_FALSE(keeper_->Unblock(block, now));
}

TEST_F(AddressKeeperTest, ABlockHoldsForAddressesThatAreResolvedLater) {
  ASSERT_TRUE(keeper_->Block({.range = *IpRange::Parse("192.0.2.0/24")},
                             MonotonicNow()));
  ASSERT_TRUE(Learn("one.test").ok());
  EXPECT_EQ("192.0.2.1 DENIED; ", States("one.test"));
}

TEST_F(AddressKeeperTest, TestsAndWhatFollowsAreReported) {
  failing_ = {"192.0.2.2"};
  ASSERT_TRUE(Learn("two.test").ok());
  const std::string target = Key("two.test")->target;
  const auto ticket = keeper_->Dialling(target, IpAddress::V4(192, 0, 2, 2));
  keeper_->DialFailed(target, ticket, "refused", MonotonicNow());
  EXPECT_TRUE(AwaitStates("two.test", "192.0.2.1 ACTIVE; 192.0.2.2 EJECTED; "));
  // Reported once the state has changed.
  EXPECT_TRUE(Eventually([&] {
    std::lock_guard lock(mu_);
    return !changes_.empty() && changes_.back() == target + " ejected";
  }));
  std::lock_guard lock(mu_);
  EXPECT_EQ(changes_.front(), target + " failed")
      << "not the members of the first answer";
}

TEST_F(AddressKeeperTest, AFailureOfDnsIsReportedWhenItBeginsAndEnds) {
  ASSERT_TRUE(Learn("moving.test").ok());
  const std::string target = Key("moving.test")->target;
  dns_.Set("moving.test", {});
  EXPECT_TRUE(AwaitChanges({target + " failing"}));
  dns_.Set("moving.test", {{"192.0.2.1"}, 60});
  EXPECT_TRUE(AwaitChanges({target + " failing", target + " answering"}));
}

TEST_F(AddressKeeperTest, AnotherHostBeginsANewBookAndOldTicketsAreVoid) {
  const auto key = Key("one.test");
  ASSERT_TRUE(Learn("one.test").ok());
  const auto ticket =
      keeper_->Dialling(key->target, IpAddress::V4(192, 0, 2, 1));
  keeper_->Connected(key->target, ticket, milliseconds(1));
  // The same target, through a proxy from now on.
  const auto known = keeper_->Know(key, "192.0.2.1", MonotonicNow());
  ASSERT_TRUE(known && known->ok());
  EXPECT_EQ(0, keeper_->Rows(key->target)[0].connections);
  const auto second =
      keeper_->Dialling(key->target, IpAddress::V4(192, 0, 2, 1));
  keeper_->Connected(key->target, second, milliseconds(1));
  keeper_->Closed(key->target, ticket);
  EXPECT_EQ(1, keeper_->Rows(key->target)[0].connections);
  keeper_->Closed(key->target, second);
  EXPECT_EQ(0, keeper_->Rows(key->target)[0].connections);
}

TEST_F(AddressKeeperTest, StrangersHaveNoTicket) {
  ASSERT_TRUE(Learn("one.test").ok());
  const std::string target = Key("one.test")->target;
  EXPECT_EQ(0u, keeper_->Dialling(target, IpAddress::V4(9, 9, 9, 9)).epoch);
  EXPECT_EQ(
      0u, keeper_->Dialling("http://other.test:80", IpAddress::V4(192, 0, 2, 1))
              .epoch);
}

}  // namespace
}  // namespace hotline::upstream
