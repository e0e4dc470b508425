#include "base/read_file.h"

#include <cerrno>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace hotline {

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(most, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  // A directory can be opened, but not read.
  if (file.bad() || (!file && !file.eof())) {
    return absl::ErrnoToStatus(errno != 0 ? errno : EIO,
                               absl::StrCat(path, " cannot be read"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

}  // namespace hotline
