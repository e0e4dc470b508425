#include "net/http2/field_check.h"

#include <nghttp2/nghttp2.h>

#include <cstdint>

#include "base/http_chars.h"

namespace hotline::net {
namespace {

const uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

}  // namespace

bool IsHttp2Field(std::string_view name, std::string_view value) {
  if (nghttp2_check_header_name(Bytes(name), name.size()) == 0 ||
      nghttp2_check_header_value_rfc9113(Bytes(value), value.size()) == 0) {
    return false;
  }
  switch (name.size()) {
    case 2:
      return name != "te" || EqualsIgnoringCase(value, "trailers");
    case 7:
      return name != "upgrade";
    case 10:
      return name != "connection" && name != "keep-alive";
    case 16:
      return name != "proxy-connection";
    case 17:
      return name != "transfer-encoding";
    default:
      return true;
  }
}

}  // namespace hotline::net
