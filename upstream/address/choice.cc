// The order in which a new connection tries the addresses of a book.
#include <algorithm>
#include <cmath>

#include "upstream/address/book.h"

namespace hotline::upstream {
namespace {

// Shorter dial times count as equal.
constexpr double kNoiseSeconds = 0.001;
constexpr double kMostSlowness = 8;
// Added to the cost of a member that always fails.
constexpr double kFailingCost = 9;

}  // namespace

double AddressBook::Fastest() const {
  double fastest = 0;
  for (const Member& m : members_) {
    if (m.dial_seconds == 0) continue;
    if (fastest == 0 || m.dial_seconds < fastest) fastest = m.dial_seconds;
  }
  return std::max(fastest, kNoiseSeconds);
}

double AddressBook::CostOf(const Member& m, double fastest) const {
  // An unmeasured member counts as the fastest; otherwise it would never be
  // measured.
  const double slowness =
      std::clamp(m.dial_seconds / fastest, 1.0, kMostSlowness);
  return slowness * (1 + kFailingCost * m.failing);
}

double AddressBook::ScoreOf(const Member& m, double fastest) const {
  return (m.connections + m.dialing + 1) * CostOf(m, fastest);
}

// The power of two choices: the load is nearly as even as with the best member,
// but concurrent dials do not all choose the same one.
size_t AddressBook::PickFirst(const std::vector<const Member*>& from,
                              uint64_t random) const {
  if (from.size() == 1) return 0;
  const size_t one = static_cast<uint32_t>(random) % from.size();
  size_t two = static_cast<uint32_t>(random >> 32) % (from.size() - 1);
  if (two >= one) ++two;
  const double fastest = Fastest();
  return ScoreOf(*from[two], fastest) < ScoreOf(*from[one], fastest) ? two
                                                                     : one;
}

// Adds the picked member, then the others by score with families alternating
// (RFC 8305, 4).
void AddressBook::AddToPlan(std::vector<const Member*> from, uint64_t random,
                            Plan* plan) const {
  if (from.empty()) return;
  std::swap(from[0], from[PickFirst(from, random)]);
  const double fastest = Fastest();
  std::stable_sort(from.begin() + 1, from.end(),
                   [&](const Member* a, const Member* b) {
                     return ScoreOf(*a, fastest) < ScoreOf(*b, fastest);
                   });
  bool v6 = from[0]->address.v6;
  while (!from.empty() && plan->order.size() < kMostAttempts) {
    auto next = std::find_if(from.begin(), from.end(), [v6](const Member* m) {
      return m->address.v6 == v6;
    });
    if (next == from.end()) next = from.begin();
    plan->order.push_back((*next)->address);
    v6 = !(*next)->address.v6;
    from.erase(next);
  }
}

AddressBook::Plan AddressBook::Choose(uint64_t random, Instant now,
                                      const EgressCheck& check,
                                      AddressEvents* events) {
  CheckEgress(check, events);
  KeepOne(now, events);
  Plan plan;
  std::vector<const Member*> active;
  std::vector<const Member*> suspect;
  std::vector<const Member*> ejected;
  bool all_fail = true;
  for (const Member& m : members_) {
    if (!m.denied.empty()) {
      ++plan.denied;
      plan.forbidden = m.address;
      plan.rule = m.denied;
    } else if (m.out == Out::kEjected) {
      ejected.push_back(&m);
    } else if (m.out == Out::kNo && !m.draining) {
      (m.unlisted ? suspect : active).push_back(&m);
      all_fail = all_fail && std::max(m.dial_failures, m.breaks) > 0;
    }
  }
  AddToPlan(std::move(active), random, &plan);
  AddToPlan(std::move(suspect), random, &plan);
  if (all_fail) AddToPlan(std::move(ejected), random, &plan);
  return plan;
}

void AddressBook::CheckEgress(const EgressCheck& check, AddressEvents* events) {
  for (Member& m : members_) {
    std::string rule = check(m.address);
    if (rule.empty() == m.denied.empty()) {
      m.denied = std::move(rule);
      continue;
    }
    const bool denied = !rule.empty();
    events->push_back(
        {denied ? AddressEvent::Kind::kDenied : AddressEvent::Kind::kAllowed,
         m.address, denied ? rule : m.denied});
    m.denied = std::move(rule);
  }
}

}  // namespace hotline::upstream
