// Faults and warnings of a configuration, by path. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_REPORT_H_
#define HOTLINE_SERVER_CONFIG_REPORT_H_

#include <string>
#include <string_view>
#include <vector>

#include "google/protobuf/repeated_ptr_field.h"
#include "server/config/proto.h"
#include "server/config/rules.h"
#include "server/config/yaml.h"

namespace hotline::server {

// References must outlive it.
struct ConfigReport {
  const ConfigLines& lines;
  ConfigFaults& faults;
  ConfigFaults& warnings;

  void Fault(std::string_view path, std::string_view text) const {
    faults.Add(LineOf(lines, path), path, text);
  }
  void Warn(std::string_view path, std::string_view text) const {
    warnings.Add(LineOf(lines, path), path, text);
  }

  // Whether the file sets `path`, rather than leaving it to its default.
  bool Given(std::string_view path) const {
    return lines.find(path) != lines.end();
  }

  // Checks each entry of the list at `path`; `check` says what is wrong with
  // one, "" if nothing is.
  void CheckEach(const std::string& path,
                 const std::vector<std::string>& entries,
                 std::string (*check)(const std::string&)) const {
    for (size_t i = 0; i < entries.size(); ++i) {
      const std::string wrong = check(entries[i]);
      if (!wrong.empty()) Fault(path + "[" + std::to_string(i) + "]", wrong);
    }
  }
};

inline std::vector<std::string> ToVector(
    const google::protobuf::RepeatedPtrField<std::string>& in) {
  return {in.begin(), in.end()};
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_REPORT_H_
