// The name of a lease, and the proof that one owns it.
#ifndef HOTLINE_BASE_LEASE_ID_H_
#define HOTLINE_BASE_LEASE_ID_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline {

// instance | shard | slot | version say where the lease lives; `secret` proves
// that it was given to whoever says it. On the wire: 44 hexadecimal digits.
struct LeaseId {
  uint32_t instance = 0;  // The process that made it.
  uint16_t shard = 0;
  uint32_t slot = 0;     // In the shard's table of leases.
  uint32_t version = 0;  // How often that slot has been used; never 0.
  uint64_t secret = 0;   // Random, kept in the slot.
  // Whose it is, or who presents it; 0: somebody without an identity. Not on
  // the wire: whoever decodes an id sets it from the caller.
  uint64_t owner = 0;

  friend bool operator==(const LeaseId&, const LeaseId&) = default;
};

// 44 lower-case hexadecimal digits.
std::string EncodeLeaseId(const LeaseId& id);

// Nothing unless `text` is exactly what EncodeLeaseId can produce.
std::optional<LeaseId> DecodeLeaseId(std::string_view text);

}  // namespace hotline

#endif  // HOTLINE_BASE_LEASE_ID_H_
