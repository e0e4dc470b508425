// Reports faults and warnings of a configuration by path. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_REPORT_H_
#define HOTLINE_SERVER_CONFIG_REPORT_H_

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "google/protobuf/repeated_ptr_field.h"
#include "server/config/faults.h"
#include "server/config/proto.h"
#include "server/config/rules.h"

namespace hotline::server {

// References must outlive it.
struct ConfigReport {
  const ConfigSource& source;
  ConfigFaults& faults;
  ConfigFaults& warnings;

  // Nothing, if `path` or one of the keys in `due_to` has a fault already: this
  // one may be its consequence.
  void Fault(std::string_view path, std::string_view text,
             std::initializer_list<std::string_view> due_to = {}) const {
    const auto faulty = [this](std::string_view key) {
      return faults.Touch(key);
    };
    if (faulty(path) || std::any_of(due_to.begin(), due_to.end(), faulty)) {
      return;
    }
    faults.Add(PlaceOf(source.places, path), path, text);
  }
  void Warn(std::string_view path, std::string_view text) const {
    warnings.Add(PlaceOf(source.places, path), path, text);
  }

  // Whether the file sets `path`, rather than leaving it to its default.
  bool Given(std::string_view path) const {
    return source.places.find(path) != source.places.end();
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

  // Warns about each CIDR with bits beyond its prefix, which are ignored.
  void WarnOfHostBits(const std::string& path,
                      const std::vector<std::string>& entries) const;
};

inline std::vector<std::string> ToVector(
    const google::protobuf::RepeatedPtrField<std::string>& in) {
  return {in.begin(), in.end()};
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_REPORT_H_
