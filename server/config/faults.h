// Faults of a configuration, by their place in the file. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_FAULTS_H_
#define HOTLINE_SERVER_CONFIG_FAULTS_H_

#include <compare>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace hotline::server {

// In a file. Both count from 1; columns are bytes.
struct Place {
  int line = 1;
  int column = 1;

  friend auto operator<=>(const Place&, const Place&) = default;
};

// A value that is never printed: `written`, its text in the file
// ("${file:/path}"), stands for it.
struct HiddenValue {
  std::string value;
  std::string written;
};

// By path: "pool.max_connections", "targets[2].warm".
using HiddenValues = std::map<std::string, HiddenValue, std::less<>>;

class ConfigFaults {
 public:
  static constexpr size_t kMost = 20;

  explicit ConfigFaults(std::string_view file) : file_(file) {}

  // In faults added from now on, these values are replaced by how they are
  // written. `values` must outlive this.
  void Hide(const HiddenValues* values) { hidden_ = values; }

  // An empty `path`: a fault of the file as a whole.
  void Add(Place place, std::string_view path, std::string_view text);

  bool empty() const { return faults_.empty(); }

  // Whether `path`, a key in it or a key around it has a fault.
  bool Touch(std::string_view path) const;

  // "FILE:LINE:COLUMN: path: text", sorted by place; at most kMost, then the
  // number of the others.
  std::vector<std::string> Lines() const;

 private:
  const std::string file_;
  const HiddenValues* hidden_ = nullptr;
  std::multimap<Place, std::string> faults_;
  std::set<std::string, std::less<>> paths_;
};

// `text` in double quotes, with unprintable characters escaped, for a message
// or as a YAML value.
std::string Quoted(std::string_view text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_FAULTS_H_
