// Which file a path names, and which version of it: to notice changes.
#ifndef HOTLINE_BASE_FILE_STAMP_H_
#define HOTLINE_BASE_FILE_STAMP_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>

namespace hotline {

// Equal for an unchanged file. The default one stands for no file.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;
  int64_t mtime_ns = 0;

  static FileStamp Of(const std::string& path) {
    struct stat info;
    if (path.empty() || stat(path.c_str(), &info) != 0) return {};
    return {info.st_dev, info.st_ino, info.st_size,
            info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
  }
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

}  // namespace hotline

#endif  // HOTLINE_BASE_FILE_STAMP_H_
