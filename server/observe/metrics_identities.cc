#include "server/observe/metrics_identities.h"

#include <algorithm>

namespace hotline::server {
namespace {

uint64_t SumOf(const IdentityUsage& usage) {
  return usage.calls + usage.denials;
}

}  // namespace

// An identity that was dropped and made anew counts from zero.
void IdentityFold::Count(const IdentityUsage& row, Instant now, Shown* shown) {
  const IdentityUsage& last = shown->last;
  const bool fell = row.calls < last.calls || row.denials < last.denials;
  const IdentityUsage before = fell ? IdentityUsage() : last;
  if (SumOf(row) > SumOf(before)) shown->active = now;
  shown->counted.calls += row.calls - before.calls;
  shown->counted.denials += row.denials - before.denials;
  shown->last = row;
}

void IdentityFold::Admit(const Rows& rows, Instant now) {
  std::vector<const IdentityUsage*> waiting;
  for (const auto& [name, row] : rows) {
    if (!shown_.contains(name)) waiting.push_back(row);
  }
  std::sort(waiting.begin(), waiting.end(),
            [](const IdentityUsage* a, const IdentityUsage* b) {
              return SumOf(*a) > SumOf(*b);
            });
  std::set<std::string, std::less<>> seen;
  // Makes room only for as many as wait.
  for (auto it = shown_.begin(); it != shown_.end();) {
    const bool needed = shown_.size() + waiting.size() > max_;
    const auto next = std::next(it);
    if (needed && now - it->second.active >= kQuiet) {
      seen.insert(it->first);
      shown_.erase(it);
    }
    it = next;
  }
  for (const IdentityUsage* row : waiting) {
    if (shown_.size() >= max_) {
      seen.insert(row->name);
      continue;
    }
    Shown& shown = shown_[row->name];
    shown.last = *row;
    shown.active = now;
    if (!seen_.contains(row->name)) shown.counted = *row;
  }
  seen_ = std::move(seen);
}

std::vector<IdentityUsage> IdentityFold::Fold(
    const std::vector<IdentityUsage>& usage, Instant now) {
  Rows rows;
  IdentityUsage other{std::string(kOther), 0, 0};
  for (const IdentityUsage& row : usage) {
    other.calls += row.calls;
    other.denials += row.denials;
    if (!row.name.empty()) rows[row.name] = &row;
  }
  for (auto& [name, shown] : shown_) {
    const auto found = rows.find(name);
    if (found != rows.end()) Count(*found->second, now, &shown);
  }
  Admit(rows, now);
  std::vector<IdentityUsage> out;
  for (const auto& [name, shown] : shown_) {
    out.push_back({name, shown.counted.calls, shown.counted.denials});
    other.calls -= shown.counted.calls;
    other.denials -= shown.counted.denials;
  }
  out.push_back(std::move(other));
  return out;
}

}  // namespace hotline::server
