// The states of addresses, one event at a time on a virtual clock.
#include "upstream/address/book.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace hotline::upstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

IpAddress At(int last) { return IpAddress::V4(192, 0, 2, last); }
IpAddress SixAt(int last) {
  IpAddress address = *IpAddress::Parse("2001:db8::");
  address.bytes[15] = static_cast<uint8_t>(last);
  return address;
}

class AddressBookTest : public ::testing::Test {
 protected:
  void Resolve(const std::vector<IpAddress>& answer) {
    book_.Refresh(answer, Egress(), now_, &events_);
  }
  AddressBook::EgressCheck Egress() {
    return [this](const IpAddress& address) {
      const auto found = denied_.find(address.ToString());
      return found == denied_.end() ? "" : found->second;
    };
  }
  void ResolveTo(std::vector<int> lasts) {
    std::vector<IpAddress> answer;
    for (int last : lasts) answer.push_back(At(last));
    Resolve(answer);
  }
  void Wait(Duration length) { now_ += length; }

  AddressBook::Plan Choose(uint64_t random = 0) {
    return book_.Choose(random, now_, Egress(), &events_);
  }
  std::string Order(uint64_t random = 0) {
    std::string text;
    for (const IpAddress& address : Choose(random).order) {
      text += std::to_string(address.bytes[address.v6 ? 15 : 3]) + " ";
    }
    return text;
  }

  void Fail(int last, int times = 1) {
    for (int i = 0; i < times; ++i) {
      book_.Dialling(At(last));
      book_.DialFailed(At(last), "refused", now_, &events_);
    }
  }
  void Open(int last, Duration length = milliseconds(1)) {
    book_.Dialling(At(last));
    book_.Connected(At(last), length);
    book_.Established(At(last), now_, &events_);
  }
  void BreakEarly(int last) {
    Open(last);
    book_.Broke(At(last), "reset", now_, &events_);
    book_.Closed(At(last));
  }
  // What is tested now, and with which result; "" when nothing is.
  std::string Test(bool passed) {
    const auto address = book_.NextTest(now_);
    if (!address) return "";
    book_.Tested(*address, passed, "no answer", now_, &events_);
    return std::to_string(address->bytes[3]);
  }

  AddressRow Row(int last) {
    for (const AddressRow& row : book_.Rows()) {
      if (row.address == At(last)) return row;
    }
    return {};
  }
  std::string State(int last) {
    for (const AddressRow& row : book_.Rows()) {
      if (row.address == At(last)) return std::string(ToString(row.state));
    }
    return "unknown";
  }
  // What happened since the last look: "ejected 1, returned 2".
  std::string News() {
    std::string text;
    for (const AddressEvent& event : events_) {
      if (!text.empty()) text += ", ";
      text += std::string(ToString(event.kind)) + " " +
              std::to_string(event.address.bytes[3]);
    }
    events_.clear();
    return text;
  }

  AddressBook book_{AddressBookConfig()};
  AddressEvents events_;
  std::map<std::string, std::string> denied_;
  Instant now_ = Instant{} + std::chrono::hours(24);
};

TEST_F(AddressBookTest, WhatDnsNamesJoinsActive) {
  ResolveTo({1, 2, 2});
  EXPECT_EQ("joined 1, joined 2", News());
  EXPECT_EQ("ACTIVE", State(1));
  EXPECT_EQ(2u, book_.Rows().size());
}

TEST_F(AddressBookTest, EmptyAnswersChangeNothing) {
  ResolveTo({1});
  for (int i = 0; i < 10; ++i) {
    Wait(minutes(5));
    ResolveTo({});
  }
  EXPECT_EQ("joined 1", News());
  EXPECT_EQ("ACTIVE", State(1));
}

// Ejection.

TEST_F(AddressBookTest, FiveFailuresInARowEjectAndFourDoNot) {
  ResolveTo({1, 2});
  Fail(1, 4);
  EXPECT_EQ("ACTIVE", State(1));
  Fail(1);
  EXPECT_EQ("EJECTED", State(1));
  EXPECT_EQ("5 failures in a row: refused", Row(1).why);
  EXPECT_EQ(now_ + seconds(30), Row(1).until);
  EXPECT_EQ("joined 1, joined 2, ejected 1", News());
  EXPECT_EQ("2 ", Order());
}

TEST_F(AddressBookTest, ASuccessBeginsTheRowAnew) {
  ResolveTo({1, 2});
  Fail(1, 4);
  Open(1);
  Fail(1, 4);
  EXPECT_EQ("ACTIVE", State(1));
  Fail(1);
  EXPECT_EQ("EJECTED", State(1));
}

TEST_F(AddressBookTest, ConnectingDoesNotExcuseBreakingBeforeAnAnswer) {
  ResolveTo({1, 2});
  for (int i = 0; i < 4; ++i) BreakEarly(1);
  EXPECT_EQ("ACTIVE", State(1));
  BreakEarly(1);
  EXPECT_EQ("EJECTED", State(1));
  EXPECT_EQ("5 failures in a row: reset", Row(1).why);
}

TEST_F(AddressBookTest, AnAnswerExcusesBreaking) {
  ResolveTo({1, 2});
  for (int i = 0; i < 20; ++i) {
    BreakEarly(1);
    if (i % 4 == 3) book_.Answered(At(1));
  }
  EXPECT_EQ("ACTIVE", State(1));
}

TEST_F(AddressBookTest, TheLastOneIsNeverEjected) {
  ResolveTo({1, 2, 3});
  Fail(1, 5);
  Fail(2, 5);
  Fail(3, 500);
  EXPECT_EQ("ACTIVE", State(3));
  EXPECT_EQ("joined 1, joined 2, joined 3, ejected 1, ejected 2", News());
  // It is tried first; the others for want of anything better.
  EXPECT_EQ("3 1 2 ", Order());
  ResolveTo({4});
  EXPECT_EQ("EJECTED", State(1));
  EXPECT_EQ("4 3 ", Order()) << "once there is something better";
}

TEST_F(AddressBookTest, TheOnlyOneIsNeverEjectedAndNeverTested) {
  ResolveTo({1});
  Fail(1, 50);
  EXPECT_EQ("ACTIVE", State(1));
  EXPECT_EQ(kNever, book_.NextDue());
}

TEST_F(AddressBookTest, TheLastOneReturnsWhenDnsOrEgressTakesTheOthers) {
  ResolveTo({1, 2});
  Fail(1, 5);
  ResolveTo({1});
  EXPECT_EQ("ACTIVE", State(1));
  EXPECT_EQ("joined 1, joined 2, ejected 1, suspect 2, returned 1", News());
  ResolveTo({1, 2});
  Fail(1, 5);
  denied_["192.0.2.2"] = "egress.deny";
  EXPECT_EQ("1 ", Order());
  EXPECT_EQ("ACTIVE", State(1));
}

TEST_F(AddressBookTest, EachEjectionIsLongerUpToALimit) {
  ResolveTo({1, 2});
  Fail(1, 5);
  for (int n = 1; n <= 14; ++n) {
    const Duration length = std::min<Duration>(n * seconds(30), seconds(300));
    EXPECT_EQ(now_ + length, Row(1).until) << n;
    Wait(length - milliseconds(1));
    EXPECT_EQ("", Test(false));
    Wait(milliseconds(1));
    EXPECT_EQ(now_, book_.NextDue());
    EXPECT_EQ("1", Test(false));
    EXPECT_EQ("EJECTED", State(1));
  }
}

TEST_F(AddressBookTest, WhatPassesItsTestReturnsOnProbation) {
  ResolveTo({1, 2});
  Fail(1, 5);
  Wait(seconds(30));
  EXPECT_EQ("1", Test(true));
  EXPECT_EQ("ACTIVE", State(1));
  Fail(1);
  EXPECT_EQ("EJECTED", State(1)) << "once is enough";
  EXPECT_EQ(now_ + seconds(60), Row(1).until);
  Wait(seconds(60));
  EXPECT_EQ("1", Test(true));
  Open(1);
  book_.Answered(At(1));
  Fail(1, 4);
  EXPECT_EQ("ACTIVE", State(1));
  // It had done well for longer than it had been out.
  Wait(seconds(61));
  Fail(1);
  EXPECT_EQ(now_ + seconds(30), Row(1).until);
}

TEST_F(AddressBookTest, WhoPassesItsTestIsAsGoodAsItWasThen) {
  ResolveTo({1, 2});
  Open(1);
  Open(2, milliseconds(100));
  Fail(2, 5);
  Wait(seconds(30));
  const auto address = book_.NextTest(now_);
  ASSERT_EQ(At(2), address);
  book_.Tested(*address, true, "", now_, &events_, milliseconds(1));
  // As much is on it as on the other, and it was as quick: with all that it has
  // done before it would come last for ever.
  book_.Closed(At(2));
  EXPECT_EQ("2 1 ", Order());
}

TEST_F(AddressBookTest, DoubtIsResolvedByTestsWithoutTraffic) {
  ResolveTo({1, 2, 3});
  Fail(1);
  Fail(2);
  Wait(seconds(1));
  EXPECT_EQ("1", Test(true));
  EXPECT_EQ("2", Test(false));
  EXPECT_EQ("", Test(false));
  for (int i = 0; i < 3; ++i) {
    Wait(seconds(1));
    EXPECT_EQ("2", Test(false));
  }
  EXPECT_EQ("EJECTED", State(2));
  EXPECT_EQ("5 failures in a row: no answer", Row(2).why);
  EXPECT_EQ(0, Row(1).failures_in_row);
}

TEST_F(AddressBookTest, OneTestAtATime) {
  ResolveTo({1, 2, 3});
  Fail(1);
  Fail(2);
  Wait(seconds(1));
  ASSERT_TRUE(book_.NextTest(now_).has_value());
  EXPECT_FALSE(book_.NextTest(now_).has_value());
  EXPECT_EQ(kNever, book_.NextDue());
  book_.Tested(At(1), true, "", now_, &events_);
  EXPECT_EQ(now_, book_.NextDue());
}

TEST_F(AddressBookTest, LosersOfARaceAreNotBlamedButTestedWhenTheyHadAStart) {
  ResolveTo({1, 2});
  book_.Dialling(At(1));
  book_.Abandoned(At(1), milliseconds(10), Duration(0), now_);
  EXPECT_EQ(kNever, book_.NextDue());
  book_.Dialling(At(1));
  book_.Abandoned(At(1), milliseconds(260), milliseconds(250), now_);
  EXPECT_EQ(0u, Row(1).failures);
  EXPECT_EQ(milliseconds(260), Row(1).dial_time);
  EXPECT_EQ(now_ + seconds(1), book_.NextDue());
  Wait(seconds(1));
  EXPECT_EQ("1", Test(true));
  EXPECT_EQ(kNever, book_.NextDue());
}

// Cooling.

TEST_F(AddressBookTest, ACooledOneRestsAndIsTestedUntilItPasses) {
  ResolveTo({1, 2});
  EXPECT_TRUE(book_.Cool(At(1), now_ + minutes(15), "429", now_, &events_));
  EXPECT_EQ("COOLING", State(1));
  EXPECT_EQ("429", Row(1).why);
  EXPECT_EQ(now_ + minutes(15), Row(1).until);
  EXPECT_EQ("2 ", Order());
  Wait(minutes(15) - milliseconds(1));
  EXPECT_EQ("", Test(true));
  Wait(milliseconds(1));
  EXPECT_EQ("1", Test(false));
  EXPECT_EQ("COOLING", State(1));
  EXPECT_EQ(now_ + minutes(5), Row(1).until);
  Wait(minutes(5));
  EXPECT_EQ("1", Test(true));
  EXPECT_EQ("ACTIVE", State(1));
  EXPECT_EQ("joined 1, joined 2, cooled 1, returned 1", News());
}

TEST_F(AddressBookTest, TheLastOneIsNotCooledNorAStrangerNorInThePast) {
  ResolveTo({1, 2});
  EXPECT_FALSE(book_.Cool(At(9), now_ + minutes(1), "", now_, &events_));
  EXPECT_FALSE(book_.Cool(At(1), now_, "", now_, &events_));
  EXPECT_TRUE(book_.Cool(At(1), now_ + minutes(1), "", now_, &events_));
  EXPECT_FALSE(book_.Cool(At(2), now_ + minutes(1), "", now_, &events_));
  EXPECT_EQ("ACTIVE", State(2));
}

TEST_F(AddressBookTest, TheLongerRestCounts) {
  ResolveTo({1, 2});
  EXPECT_TRUE(book_.Cool(At(1), now_ + minutes(9), "a", now_, &events_));
  EXPECT_TRUE(book_.Cool(At(1), now_ + minutes(3), "b", now_, &events_));
  EXPECT_EQ(now_ + minutes(9), Row(1).until);
  EXPECT_TRUE(book_.Cool(At(1), now_ + minutes(12), "c", now_, &events_));
  EXPECT_EQ(now_ + minutes(12), Row(1).until);
  EXPECT_EQ("c", Row(1).why);
  EXPECT_EQ("joined 1, joined 2, cooled 1", News()) << "one rest, told once";
}

// DNS.

TEST_F(AddressBookTest, RotatingAnswersDrainNothing) {
  for (int i = 0; i < 100; ++i) {
    if (i % 2 == 0) {
      ResolveTo({1, 2});
    } else {
      ResolveTo({3, 4});
    }
    Wait(seconds(30));
  }
  EXPECT_EQ(std::string::npos, News().find("drained"));
  EXPECT_EQ(4u, book_.Rows().size());
}

TEST_F(AddressBookTest, RotationSlowerThanTheGraceIsLearned) {
  ResolveTo({1, 2});
  Wait(seconds(30));
  ResolveTo({2});
  Wait(seconds(59));
  ResolveTo({1, 2});
  events_.clear();
  // Away for as long again, and a little more.
  ResolveTo({2});
  for (int i = 0; i < 11; ++i) {
    Wait(seconds(10));
    ResolveTo({2});
  }
  EXPECT_EQ("suspect 1", News());
  Wait(seconds(10));
  ResolveTo({2});
  EXPECT_EQ("drained 1", News());
}

TEST_F(AddressBookTest, AMigrationDrainsAfterGraceAndThreeAnswers) {
  ResolveTo({1, 2});
  Open(1);
  News();
  ResolveTo({3});
  EXPECT_EQ("suspect 1, suspect 2, joined 3", News());
  EXPECT_EQ("SUSPECT", State(1));
  EXPECT_EQ("3 2 1 ", Order()) << "new ones go to what DNS names";
  Wait(seconds(61));
  book_.Tick(now_, &events_);
  EXPECT_EQ("", News()) << "one answer is not enough";
  ResolveTo({3});
  EXPECT_EQ("", News());
  ResolveTo({3});
  EXPECT_EQ("drained 1, drained 2", News());
  EXPECT_EQ("unknown", State(2));
  EXPECT_EQ("SUSPECT", State(1)) << "has a connection still";
  EXPECT_EQ("3 ", Order());
  book_.Closed(At(1));
  EXPECT_EQ("unknown", State(1));
}

TEST_F(AddressBookTest, GraceEndsBetweenAnswersToo) {
  ResolveTo({1});
  for (int i = 0; i < 3; ++i) ResolveTo({2});
  News();
  EXPECT_EQ(now_ + seconds(60), book_.NextDue());
  Wait(seconds(60) - milliseconds(1));
  book_.Tick(now_, &events_);
  EXPECT_EQ("", News());
  Wait(milliseconds(1));
  book_.Tick(now_, &events_);
  EXPECT_EQ("drained 1", News());
}

TEST_F(AddressBookTest, WhoComesBackWhileItDrainsIsAMemberAgain) {
  ResolveTo({1});
  Open(1);
  for (int i = 0; i < 4; ++i) {
    ResolveTo({2});
    Wait(seconds(30));
  }
  ResolveTo({1, 2});
  EXPECT_EQ("ACTIVE", State(1));
  EXPECT_EQ(1, Row(1).connections);
}

TEST_F(AddressBookTest, AnAnswerThatEgressForbidsMovesNothing) {
  ResolveTo({1});
  Open(1);
  denied_["192.0.2.66"] = "an address that is always denied";
  for (int i = 0; i < 10; ++i) {
    ResolveTo({66});
    EXPECT_EQ("1 ", Order());
    Wait(minutes(1));
  }
  EXPECT_EQ("SUSPECT", State(1));
  EXPECT_EQ("DENIED", State(66));
  EXPECT_EQ("an address that is always denied", Row(66).why);
  EXPECT_EQ("joined 1, suspect 1, joined 66, denied 66", News());
}

TEST_F(AddressBookTest, NorWhenNobodyDialsMeanwhile) {
  ResolveTo({1});
  Open(1);
  denied_["192.0.2.66"] = "no";
  for (int i = 0; i < 10; ++i) {
    ResolveTo({66});
    Wait(minutes(1));
  }
  EXPECT_EQ("joined 1, suspect 1, joined 66, denied 66", News());
}

TEST_F(AddressBookTest, OnlyDeniedOnesSayWhy) {
  ResolveTo({1});
  denied_["192.0.2.1"] = "egress.deny";
  const AddressBook::Plan plan = Choose();
  EXPECT_TRUE(plan.order.empty());
  EXPECT_EQ(1, plan.denied);
  EXPECT_EQ(At(1), *plan.forbidden);
  EXPECT_EQ("egress.deny", plan.rule);
  denied_.clear();
  EXPECT_EQ("1 ", Order());
  EXPECT_EQ("joined 1, denied 1, allowed 1", News());
}

TEST_F(AddressBookTest, SixtyFourOfTwoHundredAreKeptAndStay) {
  std::vector<IpAddress> answer;
  for (int i = 0; i < 200; ++i) answer.push_back(At(i));
  Resolve(answer);
  EXPECT_EQ(64u, book_.Rows().size());
  News();
  // Another order: those that are known stay.
  std::reverse(answer.begin(), answer.end());
  Resolve(answer);
  EXPECT_EQ("", News());
  EXPECT_EQ("ACTIVE", State(63));
  EXPECT_EQ("unknown", State(64));
}

TEST_F(AddressBookTest, AsManyMayBeAway) {
  for (int round = 0; round < 4; ++round) {
    std::vector<IpAddress> answer;
    for (int i = 0; i < 64; ++i) answer.push_back(At(round * 64 + i));
    Resolve(answer);
    EXPECT_LE(book_.Rows().size(), 128u);
  }
}

// Choice.

TEST_F(AddressBookTest, TheLessLoadedGoesFirst) {
  ResolveTo({1, 2});
  for (int i = 0; i < 100; ++i) {
    Open(Choose(i * 0x9e3779b97f4a7c15u).order[0].bytes[3]);
  }
  EXPECT_EQ(50, Row(1).connections);
  EXPECT_EQ(50, Row(2).connections);
}

TEST_F(AddressBookTest, AFasterOneGetsMoreAndNotAll) {
  ResolveTo({1, 2});
  Open(1, milliseconds(40));
  Open(2, milliseconds(10));
  for (int i = 0; i < 98; ++i) {
    const int last = Choose(i * 0x9e3779b97f4a7c15u).order[0].bytes[3];
    Open(last, last == 1 ? milliseconds(40) : milliseconds(10));
  }
  EXPECT_NEAR(20, Row(1).connections, 2);
  EXPECT_NEAR(80, Row(2).connections, 2);
}

TEST_F(AddressBookTest, WhatFailsIsTriedLater) {
  ResolveTo({1, 2, 3});
  Fail(2);
  for (uint64_t random = 0; random < 6; ++random) {
    EXPECT_NE('2', Order(random << 32 | random)[0]);
  }
}

TEST_F(AddressBookTest, FamiliesTakeTurns) {
  Resolve({At(1), At(2), At(3), SixAt(4), SixAt(5)});
  for (uint64_t random = 0; random < 25; ++random) {
    const auto order = Choose(random * 0x9e3779b97f4a7c15u).order;
    ASSERT_EQ(5u, order.size());
    for (int i = 0; i < 4 - (order[0].v6 ? 1 : 0); ++i) {
      EXPECT_NE(order[i].v6, order[i + 1].v6) << random << " " << i;
    }
  }
}

TEST_F(AddressBookTest, SixteenAttemptsAreEnough) {
  std::vector<IpAddress> answer;
  for (int i = 0; i < 60; ++i) answer.push_back(At(i));
  Resolve(answer);
  EXPECT_EQ(16u, Choose(12345).order.size());
}

TEST_F(AddressBookTest, StrangersAreIgnored) {
  ResolveTo({1});
  Fail(9, 10);
  Open(9);
  BreakEarly(9);
  EXPECT_EQ("joined 1", News());
  EXPECT_FALSE(book_.in_use());
}

}  // namespace
}  // namespace hotline::upstream
