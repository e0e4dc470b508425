// Reads files whole.
#ifndef HOTLINE_BASE_READ_FILE_H_
#define HOTLINE_BASE_READ_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace hotline {

// Reads at most the first `most` bytes of a file. A caller with a limit passes
// the limit plus one, to detect longer files.
//
// Errors: by errno (NOT_FOUND, PERMISSION_DENIED, …), as "PATH cannot be read:
// …".
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most);

}  // namespace hotline

#endif  // HOTLINE_BASE_READ_FILE_H_
