// Methods and header fields, as callers write them.
#ifndef HOTLINE_SERVER_BROKER_HTTP_HEAD_H_
#define HOTLINE_SERVER_BROKER_HTTP_HEAD_H_

#include <optional>
#include <string_view>

#include "base/url.h"

namespace hotline::server {

// One header of a request to `url`; what is wrong with it and where, or
// nothing.
struct HeaderFault {
  bool in_value = false;  // Else in the name.
  const char* message = nullptr;
};
std::optional<HeaderFault> CheckHeader(std::string_view name,
                                       std::string_view value,
                                       const ParsedUrl& url);

// Whether `text` is a W3C Trace Context `traceparent`: version 00, or a later
// one as far as it can be read, of 128 bytes at most.
bool IsTraceparent(std::string_view text);

// A token other than CONNECT, at most 64 bytes. Empty means GET.
std::optional<InputError> ValidateMethod(std::string_view method);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_HTTP_HEAD_H_
