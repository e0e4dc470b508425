// Addresses that an operator has taken out of service, of one target or of all.
//
//   AddressBlocks blocks;
//   blocks.Add({.target = "", .range = *IpRange::Parse("192.0.2.0/24")}, now);
//   blocks.Why("https://a.example:443", address, now);
//   // "blocked by an operator"; "" if it is in service.
//
// Unlike an ejected address, a blocked one stays out even if it is the last one
// of its target.
//
// Thread safety: AddressBlocks is thread-safe. Why takes no lock while there is
// no block.
#ifndef HOTLINE_UPSTREAM_ADDRESS_BLOCKS_H_
#define HOTLINE_UPSTREAM_ADDRESS_BLOCKS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/ip_address.h"
#include "base/mutex.h"
#include "base/time.h"

namespace hotline::upstream {

struct AddressBlock {
  enum class Kind : uint8_t {
    kBlocked,  // Its connections are closed, with the calls on them.
    kDrained,  // Its connections are closed when their last lease ends.
  };
  Kind kind = Kind::kBlocked;
  std::string target = {};  // Canonical; empty: every target.
  IpRange range;
  Instant until = kNever;

  bool Covers(const std::string& of, const IpAddress& address) const;
};

class AddressBlocks {
 public:
  static constexpr size_t kMost = 1000;

  // Replaces the block of this kind, target and range, if there is one. False:
  // there are too many.
  bool Add(AddressBlock block, Instant now);

  // Ends the block of this kind, target and range. False: there is none.
  bool Remove(const AddressBlock& block, Instant now);

  // The reason why `target` must not connect to `address`; empty: none.
  std::string_view Why(const std::string& target, const IpAddress& address,
                       Instant now) const;

  // Those in force, in the order in which they were added.
  std::vector<AddressBlock> All(Instant now) const;

  // Whether `why` is a result of Why, not a rule of the configuration.
  static bool IsReason(std::string_view why);
  static std::string_view ReasonFor(AddressBlock::Kind kind);

 private:
  void DropExpired(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::atomic<bool> any_{false};
  mutable Mutex mu_;
  std::vector<AddressBlock> blocks_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_BLOCKS_H_
