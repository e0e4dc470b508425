#include "upstream/codec/request_fault.h"

#include "base/http_chars.h"
#include "upstream/codec/http_text.h"

namespace hotline::upstream {
namespace {

bool IsNumber(std::string_view text) {
  return !text.empty() &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

const char* FaultOf(const Request& request) {
  if (!IsToken(request.method)) return "the method is not a token";
  if (!IsVisibleAscii(request.authority)) return "not an authority";
  if (request.path.empty() || !IsVisibleAscii(request.path)) {
    return "the path is not visible ASCII";
  }
  if (!request.upgrade.empty() && !IsToken(request.upgrade)) {
    return "the protocol to change to is not a token";
  }
  bool has_length = false;
  for (const HeaderView& header : request.headers) {
    if (!IsToken(header.name)) return "a header's name is not a token";
    if (!IsFieldValue(header.value)) {
      return "a header's value has control characters";
    }
    // What says where the body ends is told once, or not at all.
    if (EqualsIgnoringCase(header.name, "transfer-encoding")) {
      return "Transfer-Encoding is the connection's to set";
    }
    if (!EqualsIgnoringCase(header.name, "content-length")) continue;
    if (has_length || !IsNumber(header.value)) {
      return "Content-Length is not one number";
    }
    has_length = true;
  }
  return nullptr;
}

}  // namespace hotline::upstream
