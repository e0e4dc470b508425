// The text that `hotline get --write-out` prints after each answer.
#ifndef HOTLINE_CLIENT_CLI_WRITE_OUT_H_
#define HOTLINE_CLIENT_CLI_WRITE_OUT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

struct AnswerFacts {
  const v1::ExecuteRequest& request;
  int status = 0;
  uint64_t size = 0;  // Of the body, in bytes.
  const v1::Receipt& receipt;
};

// INVALID_ARGUMENT if the format names an unknown variable.
absl::Status CheckWriteOut(const std::string& format);

// `format` with each %{variable} replaced by its value, escaped for a terminal,
// and \n, \r, \t and %% by the character. Times are in seconds.
// REQUIRES: CheckWriteOut accepts it.
std::string FormatWriteOut(const std::string& format, const AnswerFacts& facts);

// The variables, for the help: "status, size, …".
std::string WriteOutVariables();

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_WRITE_OUT_H_
