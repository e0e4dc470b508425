// Reads files whole.
#ifndef HOTLINE_BASE_READ_FILE_H_
#define HOTLINE_BASE_READ_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace hotline {

// The first `most` bytes of a file, or all of it when it is no longer than
// that. A caller with a limit asks for one more, and sees that there was one.
//
// Errors: what errno says (NOT_FOUND, PERMISSION_DENIED, …), as "PATH cannot be
// read: …".
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most);

}  // namespace hotline

#endif  // HOTLINE_BASE_READ_FILE_H_
