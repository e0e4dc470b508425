// References in the file to values outside it. Part of config.
//
// "${NAME}" is an environment variable, "${file:/path}" the content of a file
// without the line break at its end, "$$" a "$". What they stand for is text:
// it is neither expanded again nor parsed as YAML.
#ifndef HOTLINE_SERVER_CONFIG_OUTSIDE_H_
#define HOTLINE_SERVER_CONFIG_OUTSIDE_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace hotline::server {

struct Expanded {
  std::string text;
  // Some of it is from a file, which is where secrets are kept.
  bool from_file = false;
};

// `lookup` may be null: then no reference is accepted.
//
// Errors: INVALID_ARGUMENT for a malformed reference, and those of `lookup`.
absl::StatusOr<Expanded> Expand(const std::string& text,
                                const ConfigLookup& lookup);

// `text` as it is written for Expand to return it.
std::string WithoutReferences(const std::string& text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_OUTSIDE_H_
