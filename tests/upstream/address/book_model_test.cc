// Random events on a book, its invariants checked after each. The seed is
// printed on failure; HOTLINE_SEED runs one again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "upstream/address/book.h"

namespace hotline::upstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A world of 80 addresses, some of which fail, are denied, or are not named.
class Model {
 public:
  explicit Model(uint64_t seed) : dice_(seed) {}

  void Run(int steps) {
    for (step_ = 0; step_ < steps && !::testing::Test::HasFailure(); ++step_) {
      now_ += milliseconds(dice_() % 4000);
      Step();
      Check();
    }
  }

 private:
  static constexpr int kWorld = 80;
  static IpAddress At(int i) {
    return IpAddress::V4(10, 0, 0, static_cast<uint8_t>(i));
  }
  static int IndexOf(const IpAddress& address) { return address.bytes[3]; }
  bool Percent(uint64_t share) { return dice_() % 100 < share; }
  IpAddress Any() { return At(dice_() % kWorld); }

  void Step() {
    switch (dice_() % 12) {
      case 0:
        return Resolve();
      case 1:
        return book_.Tick(now_, &events_);
      case 2:
        fails_[dice_() % kWorld] = Percent(40);
        return;
      case 3:
        denied_[dice_() % kWorld] = Percent(30);
        return;
      case 4: {
        const IpAddress address = Any();
        const int usable = Usable();
        const bool cooled = book_.Cool(address, now_ + seconds(dice_() % 1000),
                                       "busy", now_, &events_);
        EXPECT_TRUE(!cooled || usable > 0);
        return;
      }
      case 5:
        return Test();
      case 6:
      case 7:
        return CloseOne();
      default:
        return Dial();
    }
  }

  AddressBook::EgressCheck Egress() {
    return [this](const IpAddress& address) {
      return denied_[IndexOf(address)] ? "no" : "";
    };
  }

  void Resolve() {
    const int first = dice_() % kWorld;
    const int count = dice_() % (Percent(10) ? kWorld : 8);
    std::vector<IpAddress> answer;
    for (int i = 0; i < count; ++i) answer.push_back(At((first + i) % kWorld));
    book_.Refresh(answer, Egress(), now_, &events_);
    if (!answer.empty()) named_ = answer;
  }

  void Dial() {
    const AddressBook::Plan plan =
        book_.Choose(dice_(), now_, Egress(), &events_);
    EXPECT_LE(plan.order.size(), AddressBook::kMostAttempts);
    for (size_t i = 0; i < plan.order.size(); ++i) {
      const IpAddress& address = plan.order[i];
      EXPECT_FALSE(denied_[IndexOf(address)]) << "never tries what is denied";
      EXPECT_EQ(1, std::count(plan.order.begin(), plan.order.end(), address));
      book_.Dialling(address);
      if (Percent(20)) {
        book_.Abandoned(address, seconds(1), milliseconds(i == 0 ? 250 : 0),
                        now_);
      } else if (fails_[IndexOf(address)]) {
        book_.DialFailed(address, "refused", now_, &events_);
      } else {
        return Connect(address);
      }
    }
  }

  void Connect(const IpAddress& address) {
    book_.Connected(address, milliseconds(dice_() % 100));
    ++open_[IndexOf(address)];
    if (Percent(20)) return book_.Broke(address, "reset", now_, &events_);
    book_.Established(address, now_, &events_);
    if (Percent(50)) book_.Answered(address);
  }

  void CloseOne() {
    for (auto& [index, count] : open_) {
      if (count == 0 || Percent(50)) continue;
      --count;
      return book_.Closed(At(index));
    }
  }

  void Test() {
    const auto address = book_.NextTest(now_);
    if (!address) return;
    EXPECT_FALSE(book_.NextTest(now_).has_value()) << "one at a time";
    book_.Tested(*address, !fails_[IndexOf(*address)], "refused", now_,
                 &events_);
  }

  int Usable() const {
    int usable = 0;
    for (const AddressRow& row : book_.Rows()) {
      usable += row.state == AddressState::kActive ? 1 : 0;
    }
    return usable;
  }

  void Check() {
    int named = 0;
    int away = 0;
    int out = 0;
    std::map<int, int> seen;
    for (const AddressRow& row : book_.Rows()) {
      const int index = IndexOf(row.address);
      EXPECT_EQ(1, ++seen[index]) << "a member twice";
      EXPECT_GE(row.connections, 0);
      EXPECT_EQ(0, row.dialing);
      EXPECT_EQ(open_[index], row.connections);
      EXPECT_GE(row.dials, static_cast<uint64_t>(row.connections));
      EXPECT_TRUE(row.failing >= 0 && row.failing <= 1) << row.failing;
      const bool is_named =
          std::find(named_.begin(), named_.end(), row.address) != named_.end();
      is_named ? ++named : ++away;
      if (row.state == AddressState::kCooling ||
          row.state == AddressState::kEjected) {
        EXPECT_FALSE(row.why.empty());
        out += is_named ? 1 : 0;
      }
    }
    // Of a longer answer only the book knows which it took.
    if (named_.size() <= AddressBook::kMostAddresses) {
      EXPECT_LE(named, static_cast<int>(AddressBook::kMostAddresses));
      EXPECT_TRUE(out == 0 || Usable() > 0) << "the last one was put out";
    }
    for (const auto& [index, count] : open_) {
      EXPECT_TRUE(count == 0 || seen.contains(index)) << "forgot a connection";
    }
    // The ones that drain may be more: they have connections.
    EXPECT_LE(away, static_cast<int>(AddressBook::kMostAddresses) + kWorld);
    if (::testing::Test::HasFailure()) ADD_FAILURE() << "step " << step_;
  }

  std::mt19937_64 dice_;
  AddressBook book_{AddressBookConfig()};
  AddressEvents events_;
  Instant now_ = Instant{} + std::chrono::hours(24);
  std::map<int, bool> fails_;
  std::map<int, bool> denied_;
  std::map<int, int> open_;
  std::vector<IpAddress> named_;
  int step_ = 0;
};

TEST(AddressBookModel, KeepsItsInvariantsWhateverHappens) {
  const char* given = std::getenv("HOTLINE_SEED");
  const uint64_t first =
      given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
  const uint64_t last = given != nullptr ? first : 40;
  for (uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("HOTLINE_SEED=" + std::to_string(seed));
    Model(seed).Run(5000);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace hotline::upstream
