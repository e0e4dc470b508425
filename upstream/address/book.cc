#include "upstream/address/book.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace hotline::upstream {
namespace {

// The weight of the newest value in a moving average.
constexpr double kNewest = 0.25;
// For how long a past absence extends the grace period.
constexpr Duration kMemory = std::chrono::hours(1);
// Reasons are cut to this length.
constexpr size_t kMostWhy = 200;

void Average(double newest, double* average) {
  *average += kNewest * (newest - *average);
}

}  // namespace

AddressBook::Member* AddressBook::Find(const IpAddress& address) {
  for (Member& m : members_) {
    if (m.address == address) return &m;
  }
  return nullptr;
}

bool AddressBook::HasOther(const Member& m) const {
  return std::any_of(
      members_.begin(), members_.end(),
      [&m](const Member& other) { return &other != &m && IsUsable(other); });
}

// Membership.

void AddressBook::Refresh(const std::vector<IpAddress>& answer,
                          const EgressCheck& check, Instant now,
                          AddressEvents* events, Families known) {
  if (answer.empty()) return;
  if (now - last_comeback_ > kMemory) longest_absence_ = Duration(0);
  size_t named = 0;
  for (Member& m : members_) {
    const bool is_named =
        std::find(answer.begin(), answer.end(), m.address) != answer.end();
    if (is_named && named < kMostAddresses) {
      ++named;
      if (m.unlisted) ComeBack(&m, now, events);
    } else if (!(m.address.v6 ? known.v6 : known.v4)) {
      if (!m.unlisted) ++named;
    } else {
      Miss(&m, now, events);
    }
  }
  for (const IpAddress& address : answer) {
    if (named == kMostAddresses) break;
    if (Find(address) != nullptr) continue;
    Come(address, events);
    ++named;
  }
  CheckEgress(check, events);
  KeepOne(now, events);
  LimitUnlisted(events);
  Tick(now, events);
}

void AddressBook::Recheck(const EgressCheck& check, Instant now,
                          AddressEvents* events) {
  CheckEgress(check, events);
  KeepOne(now, events);
}

void AddressBook::Come(const IpAddress& address, AddressEvents* events) {
  Member m;
  m.address = address;
  members_.push_back(std::move(m));
  events->push_back({AddressEvent::Kind::kJoined, address, "named by DNS"});
}

void AddressBook::ComeBack(Member* m, Instant now, AddressEvents* events) {
  longest_absence_ = std::max(longest_absence_, now - m->unlisted_since);
  last_comeback_ = now;
  m->unlisted = m->draining = false;
  m->missed = 0;
  events->push_back(
      {AddressEvent::Kind::kBack, m->address, "named by DNS again"});
}

void AddressBook::Miss(Member* m, Instant now, AddressEvents* events) {
  ++m->missed;
  if (m->unlisted) return;
  m->unlisted = true;
  m->unlisted_since = now;
  events->push_back(
      {AddressEvent::Kind::kSuspect, m->address, "DNS names it no more"});
}

Instant AddressBook::DrainDue(const Member& m) const {
  if (!m.unlisted || m.draining || m.missed < kMissedRefreshes) return kNever;
  return m.unlisted_since + std::max(config_.grace, 2 * longest_absence_);
}

void AddressBook::Tick(Instant now, AddressEvents* events) {
  for (Member& m : members_) {
    if (DrainDue(m) <= now && HasOther(m)) {
      Drain(&m, "DNS has not named it for long enough", events);
    }
  }
  Forget();
}

void AddressBook::LimitUnlisted(AddressEvents* events) {
  for (;;) {
    size_t unlisted = 0;
    Member* oldest = nullptr;
    for (Member& m : members_) {
      if (!m.unlisted || m.draining) continue;
      ++unlisted;
      if (!oldest || m.unlisted_since < oldest->unlisted_since) oldest = &m;
    }
    if (unlisted <= kMostAddresses) return;
    Drain(oldest, "too many addresses are no longer in DNS", events);
  }
}

void AddressBook::Drain(Member* m, std::string why, AddressEvents* events) {
  m->draining = true;
  events->push_back({AddressEvent::Kind::kDrained, m->address, std::move(why)});
}

// Removes drained members without connections and dials.
void AddressBook::Forget() {
  std::erase_if(members_, [](const Member& m) {
    return m.draining && m.connections == 0 && m.dialing == 0 && !m.testing;
  });
}

// Outcomes.

bool AddressBook::Dialling(const IpAddress& address) {
  Member* const m = Find(address);
  if (m == nullptr) return false;
  ++m->dialing;
  ++m->dials;
  return true;
}

void AddressBook::Connected(const IpAddress& address, Duration length) {
  Member* const m = Find(address);
  if (m == nullptr || m->dialing == 0) return;
  --m->dialing;
  ++m->connections;
  const double seconds = ToSeconds(length);
  if (m->dial_seconds == 0) m->dial_seconds = seconds;
  Average(seconds, &m->dial_seconds);
}

void AddressBook::DialFailed(const IpAddress& address, std::string_view why,
                             Instant now, AddressEvents* events) {
  Member* const m = Find(address);
  if (m == nullptr || m->dialing == 0) return;
  --m->dialing;
  Fail(m, &m->dial_failures, why, now, events);
  Forget();
}

void AddressBook::Abandoned(const IpAddress& address, Duration waited,
                            Duration head_start, Instant now) {
  Member* const m = Find(address);
  if (m == nullptr || m->dialing == 0) return;
  --m->dialing;
  if (head_start > Duration(0)) {
    // Connecting would have taken at least that long.
    m->dial_seconds = std::max(m->dial_seconds, ToSeconds(waited));
    if (m->out == Out::kNo) {
      m->test_at = std::min(m->test_at, now + kTestInterval);
    }
  }
  Forget();
}

void AddressBook::Established(const IpAddress& address, Instant now,
                              AddressEvents* events) {
  Member* const m = Find(address);
  if (m == nullptr) return;
  m->dial_failures = 0;
  Average(0, &m->failing);
  // An ejected member, tried because all others failed.
  if (m->out == Out::kEjected) Return(m, "a connection succeeded", now, events);
  if (m->breaks == 0) WentWell(m);
}

void AddressBook::Broke(const IpAddress& address, std::string_view why,
                        Instant now, AddressEvents* events) {
  Member* const m = Find(address);
  if (m != nullptr) Fail(m, &m->breaks, why, now, events);
}

void AddressBook::Answered(const IpAddress& address) {
  Member* const m = Find(address);
  if (m == nullptr) return;
  m->breaks = 0;
  m->probation = false;
  Average(0, &m->failing);
  if (m->dial_failures == 0) WentWell(m);
}

void AddressBook::Closed(const IpAddress& address) {
  Member* const m = Find(address);
  if (m == nullptr || m->connections == 0) return;
  --m->connections;
  Forget();
}

// Ejection and cooling down.

void AddressBook::Fail(Member* m, int* row, std::string_view why, Instant now,
                       AddressEvents* events) {
  ++m->failures;
  ++*row;
  Average(1, &m->failing);
  if (m->out != Out::kNo) return;
  m->why = std::string(why.substr(0, kMostWhy));
  if (*row >= config_.eject_after || m->probation) {
    if (HasOther(*m)) return Eject(m, now, events);
  }
  m->test_at = now + kTestInterval;
}

Duration AddressBook::EjectionLength(int times) const {
  return std::min(config_.eject_max, times * config_.eject_base);
}

void AddressBook::Eject(Member* m, Instant now, AddressEvents* events) {
  // In service for as long as it was ejected: earlier ejections no longer
  // count.
  const bool did_well = m->returned != Instant{} &&
                        now - m->returned > EjectionLength(m->ejections);
  if (did_well) m->ejections = 0;
  // The cap is far past eject_max and avoids overflow.
  m->ejections = std::min(m->ejections + 1, 1000);
  const Duration length = EjectionLength(m->ejections);
  const int row = std::max(m->dial_failures, m->breaks);
  m->why = absl::StrCat(
               row, row == 1 ? " failure: " : " failures in a row: ", m->why)
               .substr(0, kMostWhy);
  m->out = Out::kEjected;
  m->until = m->test_at = now + length;
  events->push_back({AddressEvent::Kind::kEjected, m->address, m->why, length});
}

bool AddressBook::Cool(const IpAddress& address, Instant until,
                       std::string_view why, Instant now,
                       AddressEvents* events) {
  Member* const m = Find(address);
  if (m == nullptr || until <= now || !HasOther(*m)) return false;
  if (m->out != Out::kNo && m->until >= until) return true;
  // Concurrent calls that get the same answer are one cool-down.
  const bool is_new = m->out != Out::kCooling;
  m->out = Out::kCooling;
  m->why = std::string(why.substr(0, kMostWhy));
  m->until = m->test_at = until;
  if (is_new) {
    events->push_back(
        {AddressEvent::Kind::kCooled, m->address, m->why, until - now});
  }
  return true;
}

void AddressBook::Return(Member* m, std::string why, Instant now,
                         AddressEvents* events) {
  m->probation = m->out == Out::kEjected;
  m->out = Out::kNo;
  m->returned = now;
  m->dial_failures = m->breaks = 0;
  m->test_at = kNever;
  m->why.clear();
  events->push_back(
      {AddressEvent::Kind::kReturned, m->address, std::move(why)});
}

void AddressBook::WentWell(Member* m) {
  if (m->out != Out::kNo) return;
  m->why.clear();
  m->test_at = kNever;
}

void AddressBook::KeepOne(Instant now, AddressEvents* events) {
  Member* best = nullptr;
  for (Member& m : members_) {
    if (IsUsable(m)) return;
    if (m.unlisted || !m.denied.empty()) continue;
    if (!best || m.until < best->until) best = &m;
  }
  if (best != nullptr) Return(best, "no other address is left", now, events);
}

// Tests.

bool AddressBook::WantsTest(const Member& m) const {
  if (m.testing || m.unlisted || !m.denied.empty()) return false;
  // The only member is tested by the dials themselves.
  return m.test_at != kNever && (m.out != Out::kNo || HasOther(m));
}

std::optional<IpAddress> AddressBook::NextTest(Instant now) {
  Member* next = nullptr;
  for (Member& m : members_) {
    if (m.testing) return std::nullopt;
    if (!WantsTest(m) || m.test_at > now) continue;
    if (!next || m.test_at < next->test_at) next = &m;
  }
  if (next == nullptr) return std::nullopt;
  next->testing = true;
  ++next->dials;
  return next->address;
}

void AddressBook::Tested(const IpAddress& address, bool passed,
                         std::string_view why, Instant now,
                         AddressEvents* events, Duration connecting) {
  Member* const m = Find(address);
  if (m == nullptr || !m->testing) return;
  m->testing = false;
  if (passed) {
    // Reset the averages to this result: with the old ones the member would not
    // be chosen again, and so never be measured again.
    m->failing = 0;
    m->dial_seconds = ToSeconds(connecting);
    if (m->out != Out::kNo) {
      Return(m, "it passed a test", now, events);
    } else {
      m->dial_failures = m->breaks = 0;
      WentWell(m);
    }
  } else if (m->out == Out::kNo) {
    Fail(m, &m->dial_failures, why, now, events);
  } else if (m->out == Out::kCooling) {
    ++m->failures;
    m->until = m->test_at = now + kCoolRetest;
  } else {
    ++m->failures;
    ++m->dial_failures;
    m->why = std::string(why.substr(0, kMostWhy));
    Eject(m, now, events);
  }
  Forget();
}

// Queries.

Instant AddressBook::NextDue() const {
  Instant due = kNever;
  bool testing = false;
  for (const Member& m : members_) {
    testing = testing || m.testing;
    if (HasOther(m)) due = std::min(due, DrainDue(m));
  }
  if (testing) return due;  // Tested will compute it again.
  for (const Member& m : members_) {
    if (WantsTest(m)) due = std::min(due, m.test_at);
  }
  return due;
}

bool AddressBook::in_use() const {
  return std::any_of(members_.begin(), members_.end(), [](const Member& m) {
    return m.connections > 0 || m.dialing > 0 || m.testing;
  });
}

}  // namespace hotline::upstream
