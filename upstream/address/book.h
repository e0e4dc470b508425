// The address book of one target: its members, their record, and the order in
// which a new connection tries them.
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

// The state of an address. If several apply, the last one is reported.
enum class AddressState : uint8_t {
  kActive,   // Takes new connections.
  kSuspect,  // Missing in the last DNS answer; drained if it stays missing.
  kCooling,  // Backed off at its own request; tested before it returns.
  kEjected,  // Failed too often in a row; tested before it returns.
  kDenied,   // Forbidden by egress policy, or blocked by an operator.
};
// "ACTIVE", "SUSPECT", …
std::string_view ToString(AddressState state);

// A change of an address's state, for the log, for watchers and for whoever
// drains it. The kinds from kTestPassed on are the keeper's.
struct AddressEvent {
  enum class Kind : uint8_t {
    kJoined,    // New in the DNS answer.
    kSuspect,   // Missing in the DNS answer.
    kBack,      // In the DNS answer again, before it was drained.
    kDrained,   // Missing for too long: drain its connections.
    kEjected,   // For `length`.
    kCooled,    // For `length`.
    kReturned,  // From being ejected or cooled.
    kDenied,    // By the rule in `why`.
    kAllowed,   // No longer denied.
    kTestPassed,
    kTestFailed,
    kDnsFails,    // Of no address: the known ones stay in use.
    kDnsAnswers,  // Of no address: again.
  };
  Kind kind;
  IpAddress address;
  std::string why;
  Duration length{0};
};
std::string_view ToString(AddressEvent::Kind kind);
using AddressEvents = std::vector<AddressEvent>;

// A snapshot of one address.
struct AddressRow {
  IpAddress address;
  AddressState state = AddressState::kActive;
  std::string why;         // The reason for the state, or the last failure.
  Instant until = kNever;  // COOLING, EJECTED: when it is tested.
  Duration dial_time{0};   // Of TCP; moving average; 0: none yet.
  double failing = 0;      // Share of dials and first calls; moving average.
  uint64_t dials = 0;      // Attempts to connect, tests included.
  uint64_t failures = 0;   // Failed dials, tests, and first calls.
  int failures_in_row = 0;
  int connections = 0;
  int dialing = 0;
};

// A book takes events with their time, changes its members, and returns the
// changes as AddressEvents. It neither resolves nor connects:
//
//   AddressBook book(config);
//   book.Refresh(answer, check, now, &events);      // From DNS.
//   AddressBook::Plan plan = book.Choose(random, now, check, &events);
//   book.Dialling(plan.order[0]);
//   book.Connected(plan.order[0], length);          // Or DialFailed,
//   Abandoned. book.Established(plan.order[0], now, &events);  // Or Broke.
//   book.Closed(plan.order[0]);
//
// Choice: of two random members, the one with the lower score goes first, where
// score = (connections + dials + 1) * cost; the others follow by score, IPv4
// and IPv6 alternating. The cost is 1 for the fastest member without failures,
// up to 8 for slower ones, and up to ten times that for failing ones. ACTIVE
// members come before SUSPECT ones. Others are not tried, except EJECTED
// members when all usable ones keep failing.
//
// Tests: a member that failed, or lost a race against an attempt that began
// later, gets little traffic from then on. It is therefore tested every second
// until it passes or has failed often enough to be ejected. A COOLING or
// EJECTED member is tested when its time is up and returns when it passes; then
// a single failure ejects it again, until a call on it has been answered.
//
// Invariants:
//   1. At least one of the members that DNS names and egress allows is neither
//      COOLING nor EJECTED: the last usable one is never taken out.
//   2. At most kMostAddresses members are named by DNS, and at most as many are
//      missing. Of a longer answer the known members are kept.
//   3. A member is drained only after it was missing in kMissedRefreshes
//      answers, and for `grace` (or twice the longest absence that ended within
//      the last hour), and while another one is ACTIVE.
//   4. `connections` and `dialing` follow the calls below and are never
//      negative; a member that has any is not removed.
//
// Not thread-safe. Reads no clock and generates no random numbers.
class AddressBook {
 public:
  static constexpr size_t kMostAddresses = 64;
  static constexpr size_t kMostAttempts = 16;
  static constexpr int kMissedRefreshes = 3;
  static constexpr Duration kTestInterval = std::chrono::seconds(1);
  // Between tests of a COOLING member after its time is up.
  static constexpr Duration kCoolRetest = std::chrono::minutes(5);

  explicit AddressBook(const AddressBookConfig& config) : config_(config) {}

  void Configure(const AddressBookConfig& config) { config_ = config; }

  // --- Membership ---

  // Empty: allowed; else the rule that forbids it.
  using EgressCheck = std::function<std::string(const IpAddress&)>;

  // DNS has answered. An empty answer changes nothing; members of a family that
  // is not in `known` stay as they are. Like Choose, checks egress again for
  // every member.
  void Refresh(const std::vector<IpAddress>& answer, const EgressCheck& check,
               Instant now, AddressEvents* events, Families known = {});

  // Checks egress again for every member.
  void Recheck(const EgressCheck& check, Instant now, AddressEvents* events);

  // Drains members that have been missing for long enough.
  void Tick(Instant now, AddressEvents* events);

  // --- Choice ---

  struct Plan {
    std::vector<IpAddress> order;  // At most kMostAttempts, the best first.
    int denied = 0;                // Members that egress forbids.
    // One of them, if `order` is empty.
    std::optional<IpAddress> forbidden;
    std::string rule;
  };
  // `random`: any 64 bits.
  Plan Choose(uint64_t random, Instant now, const EgressCheck& check,
              AddressEvents* events);

  // --- Outcomes; an address that is not a member is ignored ---

  // False: not a member.
  bool Dialling(const IpAddress& address);
  // Each Dialling ends with one of the following three. Connected: the TCP
  // handshake took `length`; the address has one more connection.
  void Connected(const IpAddress& address, Duration length);
  void DialFailed(const IpAddress& address, std::string_view why, Instant now,
                  AddressEvents* events);
  // Given up because another attempt won. `head_start`: how much earlier this
  // one had begun; 0: it had not.
  void Abandoned(const IpAddress& address, Duration waited, Duration head_start,
                 Instant now);

  // A connection passed the whole dial: handshake and validation.
  void Established(const IpAddress& address, Instant now,
                   AddressEvents* events);
  // A connection failed in the handshake or its validation, or broke before its
  // first answer.
  void Broke(const IpAddress& address, std::string_view why, Instant now,
             AddressEvents* events);
  // The first call on a connection was answered.
  void Answered(const IpAddress& address);
  // A connection is closed. Also called after Broke.
  void Closed(const IpAddress& address);

  // --- Cooling down and tests ---

  // Takes the address out of service until `until`; then it is tested, and
  // again every kCoolRetest until it passes. Of several calls the latest
  // `until` applies. False, without effect: it is the last usable member, or
  // not a member.
  bool Cool(const IpAddress& address, Instant until, std::string_view why,
            Instant now, AddressEvents* events);

  // The next address to test now, if any. Tested must follow, with the time of
  // the TCP handshake (0: unknown).
  std::optional<IpAddress> NextTest(Instant now);
  void Tested(const IpAddress& address, bool passed, std::string_view why,
              Instant now, AddressEvents* events,
              Duration connecting = Duration(0));

  // --- Queries ---

  // When Tick or NextTest is due; kNever: not before another event.
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
    Instant until{};        // The end of being out.
    std::string why;        // The reason for being out, or the last failure.
    bool unlisted = false;  // Missing in the last answer.
    Instant unlisted_since{};
    int missed = 0;  // Consecutive answers without it.
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
    return !m.unlisted && m.denied.empty() && m.out == Out::kNo;
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
  void LimitUnlisted(AddressEvents* events);
  void Drain(Member* m, std::string why, AddressEvents* events);
  void Forget();
  // kNever: another answer without it must come first.
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
  // The longest absence that ended, and when the last absence ended.
  Duration longest_absence_{0};
  Instant last_comeback_{};
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_BOOK_H_
