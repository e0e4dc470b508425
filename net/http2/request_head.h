// One header block of a request: its head, or its trailers, checked against
// RFC 9113 (8.1 to 8.3) field by field as it is decoded.
//
// Two limits, both in the protocol's own measure (name + value + 32 bytes a
// field). Past the first, fields are counted and dropped, and the request can
// still be answered; past the second, its stream is to be reset. Nothing is
// examined that is not also stored, so a block's cost is bounded by the first
// limit whatever HPACK makes of it.
#ifndef HOTLINE_NET_HTTP2_REQUEST_HEAD_H_
#define HOTLINE_NET_HTTP2_REQUEST_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace hotline::net {

struct HeaderField {
  std::string_view name;
  std::string_view value;
  // Of an answer: whether HPACK may keep it for later ones.
  bool indexed = true;
};

// Views live as long as the call that they are given to.
struct RequestHead {
  std::string_view method;
  std::string_view scheme;     // Empty for CONNECT, as the path.
  std::string_view authority;  // Or the Host field. May be empty.
  std::string_view path;
  absl::Span<const HeaderField> fields;  // Without pseudo-header fields.
  int64_t content_length = -1;           // -1: it has none.
  // It is more than max_bytes, and incomplete: only what fits is here.
  bool too_large = false;
};

// Used for one block after the other. Not thread-safe.
class RequestHeadReader {
 public:
  struct Limits {
    size_t max_bytes = 16 << 10;
    size_t flood_bytes = 256 << 10;
  };
  enum class Result : uint8_t {
    kOk,
    kMalformed,  // A stream error; nothing may be added after it.
    kFlood,      // More than flood_bytes; the same.
  };

  // Starts a block.
  void Begin(const Limits& limits, bool trailers);
  Result Add(std::string_view name, std::string_view value);
  // The block is complete. `last`: nothing follows it. False: malformed.
  bool Finish(bool last);

  // After Finish, until Begin.
  const RequestHead& head() const { return head_; }

 private:
  enum Seen : uint8_t {
    kMethod = 1,
    kScheme = 2,
    kPath = 4,
    kAuthority = 8,
    kHost = 16,
    kRegular = 32,
  };

  bool AddPseudo(std::string_view name, std::string_view value);
  bool AddRegular(std::string_view name, std::string_view value);
  bool TakeLength(std::string_view digits);
  // False: it was seen before.
  bool See(Seen what);
  std::string_view Store(std::string_view text);

  Limits limits_;
  bool trailers_ = false;
  uint8_t seen_ = 0;
  size_t bytes_ = 0;
  std::unique_ptr<char[]> text_;  // Of max_bytes, so that views stay valid.
  size_t capacity_ = 0;
  size_t used_ = 0;
  std::vector<HeaderField> fields_;
  std::string_view host_;
  RequestHead head_;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_REQUEST_HEAD_H_
