#include "server/observe/metrics_process.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace hotline::server {
namespace {

// /proc/self/stat from its third field on, after the name, which may contain
// any bytes.
std::vector<std::string> StatFields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream rest(
      line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

std::optional<double> BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::atof(line.c_str() + 6);
  }
  return std::nullopt;
}

std::optional<double> OpenDescriptors() {
  DIR* const dir = opendir("/proc/self/fd");
  if (dir == nullptr) return std::nullopt;
  int count = 0;
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count - 3;  // Itself, "." and "..".
}

}  // namespace

std::vector<ProcessFigure> ReadProcessFigures() {
  std::vector<ProcessFigure> out;
  const std::vector<std::string> stat = StatFields();
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  // By the numbers in proc(5), less three.
  const auto field = [&stat](int i) { return std::atof(stat[i].c_str()); };
  if (stat.size() > 21 && ticks > 0) {
    out.push_back({"process_cpu_seconds_total", "CPU time spent, in seconds.",
                   true, (field(11) + field(12)) / ticks});
    out.push_back({"process_threads", "Threads.", false, field(17)});
    if (const auto boot = BootTime()) {
      out.push_back({"process_start_time_seconds",
                     "Start of the process, in seconds since the epoch.", false,
                     *boot + field(19) / ticks});
    }
    out.push_back(
        {"process_virtual_memory_bytes", "Virtual memory.", false, field(20)});
    out.push_back({"process_resident_memory_bytes", "Resident memory.", false,
                   field(21) * static_cast<double>(sysconf(_SC_PAGESIZE))});
  }
  if (const auto open = OpenDescriptors()) {
    out.push_back({"process_open_fds", "Open descriptors.", false, *open});
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    out.push_back({"process_max_fds", "Most descriptors allowed.", false,
                   static_cast<double>(limit.rlim_cur)});
  }
  return out;
}

}  // namespace hotline::server
