#include "base/lease_id.h"

namespace hotline {
namespace {

constexpr size_t kDigits = 2 * (4 + 2 + 4 + 4 + 8);
constexpr char kHex[] = "0123456789abcdef";

void Put(uint64_t value, int digits, char*& out) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) {
    *out++ = kHex[(value >> shift) & 0xf];
  }
}

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// REQUIRES: the digits are valid.
uint64_t Take(int digits, const char*& in) {
  uint64_t value = 0;
  for (int i = 0; i < digits; ++i) value = value << 4 | DigitValue(*in++);
  return value;
}

}  // namespace

std::string EncodeLeaseId(const LeaseId& id) {
  std::string text(kDigits, '\0');
  char* out = text.data();
  Put(id.instance, 8, out);
  Put(id.shard, 4, out);
  Put(id.slot, 8, out);
  Put(id.version, 8, out);
  Put(id.secret, 16, out);
  return text;
}

std::optional<LeaseId> DecodeLeaseId(std::string_view text) {
  if (text.size() != kDigits) return std::nullopt;
  for (char c : text) {
    if (DigitValue(c) < 0) return std::nullopt;
  }
  const char* in = text.data();
  LeaseId id;
  id.instance = static_cast<uint32_t>(Take(8, in));
  id.shard = static_cast<uint16_t>(Take(4, in));
  id.slot = static_cast<uint32_t>(Take(8, in));
  id.version = static_cast<uint32_t>(Take(8, in));
  id.secret = Take(16, in);
  return id;
}

}  // namespace hotline
