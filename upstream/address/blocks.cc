#include "upstream/address/blocks.h"

#include <algorithm>
#include <utility>

namespace hotline::upstream {
namespace {

constexpr std::string_view kBlocked = "blocked by an operator";
constexpr std::string_view kDrained = "drained by an operator";

bool IsSame(const AddressBlock& a, const AddressBlock& b) {
  return a.kind == b.kind && a.target == b.target &&
         a.range.prefix == b.range.prefix && a.range.First() == b.range.First();
}

}  // namespace

bool AddressBlock::Covers(const std::string& of,
                          const IpAddress& address) const {
  return (target.empty() || target == of) && range.Contains(address.Unmapped());
}

std::string_view AddressBlocks::ReasonFor(AddressBlock::Kind kind) {
  return kind == AddressBlock::Kind::kBlocked ? kBlocked : kDrained;
}

bool AddressBlocks::IsReason(std::string_view why) {
  return why == kBlocked || why == kDrained;
}

void AddressBlocks::DropExpired(Instant now) {
  std::erase_if(blocks_,
                [now](const AddressBlock& b) { return b.until <= now; });
}

bool AddressBlocks::Add(AddressBlock block, Instant now) {
  block.range = block.range.Unmapped();
  MutexLock lock(&mu_);
  DropExpired(now);
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(),
                   [&](const AddressBlock& b) { return IsSame(b, block); });
  if (found != blocks_.end()) {
    found->until = block.until;
    return true;
  }
  if (blocks_.size() >= kMost) return false;
  blocks_.push_back(std::move(block));
  any_ = true;
  return true;
}

bool AddressBlocks::Remove(const AddressBlock& block, Instant now) {
  AddressBlock wanted = block;
  wanted.range = block.range.Unmapped();
  MutexLock lock(&mu_);
  DropExpired(now);
  const size_t removed = std::erase_if(
      blocks_, [&](const AddressBlock& b) { return IsSame(b, wanted); });
  any_ = !blocks_.empty();
  return removed > 0;
}

std::string_view AddressBlocks::Why(const std::string& target,
                                    const IpAddress& address,
                                    Instant now) const {
  if (!any_) return "";
  MutexLock lock(&mu_);
  for (const AddressBlock& block : blocks_) {
    if (block.until > now && block.Covers(target, address)) {
      return ReasonFor(block.kind);
    }
  }
  return "";
}

std::vector<AddressBlock> AddressBlocks::All(Instant now) const {
  MutexLock lock(&mu_);
  std::vector<AddressBlock> in_force;
  for (const AddressBlock& block : blocks_) {
    if (block.until > now) in_force.push_back(block);
  }
  return in_force;
}

}  // namespace hotline::upstream
