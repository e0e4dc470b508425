// Validates HTTP methods and header fields that callers send. Pure.
#ifndef HOTLINE_SERVER_BROKER_HTTP_HEAD_H_
#define HOTLINE_SERVER_BROKER_HTTP_HEAD_H_

#include <optional>
#include <string_view>

#include "base/url.h"

namespace hotline::server {

// A fault of one header of a request to a URL.
struct HeaderFault {
  bool in_value = false;  // Else in the name.
  const char* message = nullptr;
};
std::optional<HeaderFault> CheckHeader(std::string_view name,
                                       std::string_view value,
                                       const ParsedUrl& url);

// Whether `text` is a W3C Trace Context `traceparent`: version 00, or the known
// part of a later one, of at most 128 bytes.
bool IsTraceparent(std::string_view text);

// A token other than CONNECT, at most 64 bytes. Empty means GET.
std::optional<InputError> ValidateMethod(std::string_view method);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_HTTP_HEAD_H_
