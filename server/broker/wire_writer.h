// Writes fields in protobuf's wire format (protobuf.dev, "Encoding"), into
// memory of which the size functions have told how much it takes. For fields
// with numbers below 16, whose tag is one byte, and with proto3's presence: the
// functions named Optional write nothing for an empty or zero value.
#ifndef HOTLINE_SERVER_BROKER_WIRE_WRITER_H_
#define HOTLINE_SERVER_BROKER_WIRE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "google/protobuf/io/coded_stream.h"

namespace hotline::server {

// Of the wire types, those that are written here.
inline constexpr int kVarintType = 0;
inline constexpr int kLengthDelimitedType = 2;

inline size_t VarintSize(uint64_t value) {
  return google::protobuf::io::CodedOutputStream::VarintSize64(value);
}
inline uint8_t* WriteVarint(uint64_t value, uint8_t* to) {
  return google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(value,
                                                                       to);
}

// A tag, a length and as many bytes.
inline size_t LengthDelimitedSize(size_t bytes) {
  return 1 + VarintSize(bytes) + bytes;
}
inline size_t OptionalBytesSize(std::string_view bytes) {
  return bytes.empty() ? 0 : LengthDelimitedSize(bytes.size());
}
inline size_t OptionalVarintSize(uint64_t value) {
  return value == 0 ? 0 : 1 + VarintSize(value);
}

// The tag and the length; the bytes follow.
inline uint8_t* WriteLength(int field, size_t bytes, uint8_t* to) {
  *to++ = static_cast<uint8_t>(field << 3 | kLengthDelimitedType);
  return WriteVarint(bytes, to);
}
inline uint8_t* WriteOptionalBytes(int field, std::string_view bytes,
                                   uint8_t* to) {
  if (bytes.empty()) return to;
  to = WriteLength(field, bytes.size(), to);
  std::memcpy(to, bytes.data(), bytes.size());
  return to + bytes.size();
}
inline uint8_t* WriteOptionalVarint(int field, uint64_t value, uint8_t* to) {
  if (value == 0) return to;
  *to++ = static_cast<uint8_t>(field << 3 | kVarintType);
  return WriteVarint(value, to);
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_WIRE_WRITER_H_
