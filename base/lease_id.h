// The id of a lease, which also proves its ownership.
#ifndef HOTLINE_BASE_LEASE_ID_H_
#define HOTLINE_BASE_LEASE_ID_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline {

// instance | shard | slot | version locate the lease; `secret` proves that the
// presenter received the id. On the wire: 44 hexadecimal digits.
struct LeaseId {
  uint32_t instance = 0;  // The process that granted it.
  uint16_t shard = 0;
  uint32_t slot = 0;     // In the shard's table of leases.
  uint32_t version = 0;  // How often that slot has been used; never 0.
  uint64_t secret = 0;   // Random, kept in the slot.
  // The identity of the lease's owner, or of the caller that presents the id;
  // 0: a caller without an identity. Not on the wire: the code that decodes an
  // id sets it from the caller.
  uint64_t owner = 0;

  friend bool operator==(const LeaseId&, const LeaseId&) = default;
};

// 44 lower-case hexadecimal digits.
std::string EncodeLeaseId(const LeaseId& id);

// Returns nothing unless `text` is a possible result of EncodeLeaseId.
std::optional<LeaseId> DecodeLeaseId(std::string_view text);

}  // namespace hotline

#endif  // HOTLINE_BASE_LEASE_ID_H_
