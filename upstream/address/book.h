// The addresses of one target: which there are, how they have done, and in what
// order a new connection should try them.
#ifndef HOTLINE_UPSTREAM_ADDRESS_BOOK_H_
#define HOTLINE_UPSTREAM_ADDRESS_BOOK_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip_address.h"
#include "base/time.h"
#include "upstream/options.h"

namespace hotline::upstream {

// What is to be made of an address. When several hold, the last one is shown.
enum class AddressState : uint8_t {
  kActive,   // New connections go to it.
  kSuspect,  // DNS names it no more; it will be drained if it stays away.
  kCooling,  // It asked for a rest; left alone, then tested before it returns.
  kEjected,  // It failed too often in a row; as above.
  kDenied,   // Egress forbids it.
};
// "ACTIVE", "SUSPECT", …
std::string_view ToString(AddressState state);

// Something changed that people may want to know of.
struct AddressEvent {
  enum class Kind : uint8_t {
    kJoined,    // Named by DNS for the first time.
    kSuspect,   // Named no more.
    kBack,      // Named again in time.
    kDrained,   // Stayed away: its connections are to be drained.
    kEjected,   // For `length`.
    kCooled,    // For `length`.
    kReturned,  // From either.
    kDenied,    // By the rule in `why`.
    kAllowed,   // No more denied.
  };
  Kind kind;
  IpAddress address;
  std::string why;
  Duration length{0};
};
std::string_view ToString(AddressEvent::Kind kind);
using AddressEvents = std::vector<AddressEvent>;

// A look at one address.
struct AddressRow {
  IpAddress address;
  AddressState state = AddressState::kActive;
  std::string why;         // Empty when ACTIVE and nothing is wrong.
  Instant until = kNever;  // COOLING, EJECTED: when it is tested.
  Duration dial_time{0};   // Of TCP; moving average; zero: none yet.
  double failing = 0;      // Share of dials and first calls; moving average.
  uint64_t dials = 0;      // Attempts to connect, tests included.
  uint64_t failures = 0;   // Failed dials, tests, and first calls.
  int failures_in_row = 0;
  int connections = 0;
  int dialing = 0;
};

// A book takes events with the time in them, changes its members, and writes
// down what is to be told (AddressEvents). It neither resolves nor connects.
//
// Choice: of two members taken at random the one with the smaller load (its
// connections and dials, plus one) times cost goes first; the others follow by
// the same measure, IPv4 and IPv6 in turns. The cost is 1 for the fastest
// that never fails, up to 8 for slower ones, up to ten times that for failing
// ones. ACTIVE members come before SUSPECT ones; the rest is not tried, but for
// EJECTED ones when the only one that is left keeps failing, too.
//
// Doubt: a member that failed, or was overtaken by one that began later, gets
// little to do from then on; so it is tested every second until it has passed,
// or has failed often enough. A member that is out (COOLING, EJECTED) is tested
// when its time is up, and returns when it passes; after that one failure
// ejects it again, until a call on it was answered.
//
// Invariants:
//   1. Of the members that DNS names and egress allows, at least one is neither
//      COOLING nor EJECTED: the last one is never put out.
//   2. At most kMostAddresses members are named by DNS; at most as many are
//      away. Of a longer answer those are kept that were known already.
//   3. A member is drained only after it was missing in kMissedRefreshes
//      answers and for `grace` (or for twice as long as any that came back in
//      the last hour had been away), and while another one is ACTIVE.
//   4. `connections` and `dialing` are what was told, never negative; nothing
//      is forgotten while it has any.
//
// Not thread-safe. Reads no clock and draws no lots.
class AddressBook {
 public:
  static constexpr size_t kMostAddresses = 64;
  static constexpr size_t kMostAttempts = 16;
  static constexpr int kMissedRefreshes = 3;
  static constexpr Duration kTestInterval = std::chrono::seconds(1);
  // Between the tests of a COOLING member whose time is up.
  static constexpr Duration kCoolRetest = std::chrono::minutes(5);

  explicit AddressBook(const AddressBookConfig& config) : config_(config) {}

  void Configure(const AddressBookConfig& config) { config_ = config; }

  // --- Membership ---

  // Empty: allowed; else the rule that forbids it.
  using EgressCheck = std::function<std::string(const IpAddress&)>;

  // DNS answered. An empty answer changes nothing; an answer that does not know
  // of a family leaves the members of that family as they are. Looks at egress
  // anew for every member, as Choose does.
  void Refresh(const std::vector<IpAddress>& answer, const EgressCheck& check,
               Instant now, AddressEvents* events, Families known = {});

  // Drains what stayed away for long enough.
  void Tick(Instant now, AddressEvents* events);

  // --- Choice ---

  struct Plan {
    std::vector<IpAddress> order;  // At most kMostAttempts, the best first.
    int denied = 0;                // Members that egress forbids.
    // One of them, when nothing else is there.
    std::optional<IpAddress> forbidden;
    std::string rule;
  };
  // `random`: any 64 bits.
  Plan Choose(uint64_t random, Instant now, const EgressCheck& check,
              AddressEvents* events);

  // --- What became of it; addresses that are no members are ignored ---

  // False: it is no member.
  bool Dialling(const IpAddress& address);
  // Each Dialling ends with one of these three. Connected: TCP stands, and
  // takes `length` to do so; the address has a connection more.
  void Connected(const IpAddress& address, Duration length);
  void DialFailed(const IpAddress& address, std::string_view why, Instant now,
                  AddressEvents* events);
  // Given up because another one was faster. `head_start`: how much earlier it
  // had begun; zero: it had not.
  void Abandoned(const IpAddress& address, Duration waited, Duration head_start,
                 Instant now);

  // A connection passed all that a dial asks for.
  void Established(const IpAddress& address, Instant now,
                   AddressEvents* events);
  // A connection failed in the handshake or its validation, or broke before it
  // had answered anything.
  void Broke(const IpAddress& address, std::string_view why, Instant now,
             AddressEvents* events);
  // The first call on a connection was answered.
  void Answered(const IpAddress& address);
  // A connection is gone; after Broke, too.
  void Closed(const IpAddress& address);

  // --- Leaving alone, and coming back ---

  // Puts the address out until `until`; then it is tested, and again every
  // kCoolRetest until it passes. False, and nothing done: it is the last one,
  // or no member. A later `until` counts.
  bool Cool(const IpAddress& address, Instant until, std::string_view why,
            Instant now, AddressEvents* events);

  // What is to be tested now, if anything; at most one at a time. Followed by
  // Tested, with the time that connecting took (0: not known).
  std::optional<IpAddress> NextTest(Instant now);
  void Tested(const IpAddress& address, bool passed, std::string_view why,
              Instant now, AddressEvents* events,
              Duration connecting = Duration(0));

  // --- Looks ---

  // When Tick or NextTest has something to do; kNever: not before something
  // else happens.
  Instant NextDue() const;
  std::vector<AddressRow> Rows() const;
  bool empty() const { return members_.empty(); }
  // Has connections, dials or a test.
  bool in_use() const;

 private:
  enum class Out : uint8_t { kNo, kCooling, kEjected };

  struct Member {
    IpAddress address;
    std::string denied;  // The rule; empty: allowed.
    Out out = Out::kNo;
    Instant until{};  // Of being out.
    std::string why;  // Of being out, or of the last failure.
    bool away = false;
    Instant away_since{};
    int missed = 0;  // Answers without it.
    bool draining = false;

    int ejections = 0;
    Instant returned{};
    bool probation = false;
    int dial_failures = 0;  // In a row.
    int breaks = 0;         // In a row.
    Instant test_at = kNever;
    bool testing = false;

    double dial_seconds = 0;
    double failing = 0;
    uint64_t dials = 0;
    uint64_t failures = 0;
    int dialing = 0;
    int connections = 0;
  };

  static bool IsUsable(const Member& m) {
    return !m.away && m.denied.empty() && m.out == Out::kNo;
  }
  static AddressState StateOf(const Member& m);
  Member* Find(const IpAddress& address);
  // Whether a member other than `m` is usable.
  bool HasOther(const Member& m) const;
  Duration EjectionLength(int times) const;
  double CostOf(const Member& m, double fastest) const;
  double ScoreOf(const Member& m, double fastest) const;
  double Fastest() const;
  size_t PickFirst(const std::vector<const Member*>& from,
                   uint64_t random) const;
  void AddToPlan(std::vector<const Member*> from, uint64_t random,
                 Plan* plan) const;
  void CheckEgress(const EgressCheck& check, AddressEvents* events);

  void Come(const IpAddress& address, AddressEvents* events);
  void ComeBack(Member* m, Instant now, AddressEvents* events);
  void Miss(Member* m, Instant now, AddressEvents* events);
  void LimitAway(AddressEvents* events);
  void Drain(Member* m, std::string why, AddressEvents* events);
  void Forget();
  // kNever: not without another answer that misses it.
  Instant DrainDue(const Member& m) const;

  void Fail(Member* m, int* row, std::string_view why, Instant now,
            AddressEvents* events);
  void Eject(Member* m, Instant now, AddressEvents* events);
  void Return(Member* m, std::string why, Instant now, AddressEvents* events);
  void WentWell(Member* m);
  void KeepOne(Instant now, AddressEvents* events);
  bool WantsTest(const Member& m) const;

  AddressBookConfig config_;
  std::vector<Member> members_;
  // The longest absence that ended with a return, and when the last one did.
  Duration longest_absence_{0};
  Instant last_comeback_{};
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_BOOK_H_
