// What epoll sets of this process watch.
#ifndef HOTLINE_TESTS_FAKES_WATCHES_H_
#define HOTLINE_TESTS_FAKES_WATCHES_H_

#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace hotline::testing {

// In how many epoll sets a file is, by whatever descriptors: a set keeps those
// that were closed while the file has others.
inline int WatchesOf(int fd) {
  struct stat wanted;
  if (fstat(fd, &wanted) != 0) return -1;
  int watches = 0;
  for (const auto& info : std::filesystem::directory_iterator(
           "/proc/self/fdinfo",
           std::filesystem::directory_options::skip_permission_denied)) {
    std::ifstream lines(info.path());
    for (std::string line; std::getline(lines, line);) {
      unsigned long inode = 0;
      const size_t at = line.find(" ino:");
      if (!line.starts_with("tfd:") || at == std::string::npos) continue;
      if (std::sscanf(line.c_str() + at, " ino:%lx", &inode) != 1) continue;
      if (inode == wanted.st_ino) ++watches;
    }
  }
  return watches;
}

}  // namespace hotline::testing

#endif  // HOTLINE_TESTS_FAKES_WATCHES_H_
