// Messages as JSON for scripts.
#ifndef HOTLINE_CLIENT_CLI_JSON_H_
#define HOTLINE_CLIENT_CLI_JSON_H_

#include <string>

#include "google/protobuf/message.h"

namespace hotline::client {

// Indented JSON with the field names of the .proto files, ending with a
// newline. As protobuf's own JSON, with fields that have their default value,
// but all numbers are numbers: protobuf writes 64-bit ones as strings. A
// Duration is "1.500s", a Timestamp "2024-05-01T12:00:00Z", an enum its name,
// bytes are base64. Nothing in it is interpreted by a terminal.
std::string FormatJson(const google::protobuf::Message& message);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_JSON_H_
