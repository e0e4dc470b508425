// Parses YAML into a small tree with line numbers. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_YAML_H_
#define HOTLINE_SERVER_CONFIG_YAML_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hotline::server {

// A value. Scalars keep their text and whether they were quoted: the meaning of
// an unquoted one depends on the type that its reader expects.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  int line = 1;         // From 1.
  bool quoted = false;  // kScalar: in quotes, or a block scalar.
  std::string text;     // kScalar.
  // kList: in order, without keys. kMap: in order, duplicates included.
  std::vector<std::string> keys;
  std::vector<int> key_lines;
  std::vector<YamlNode> values;
};

// The faults of a file, by line.
class ConfigFaults {
 public:
  static constexpr size_t kMost = 20;

  explicit ConfigFaults(std::string_view file) : file_(file) {}

  // An empty `path`: a fault of the file as a whole.
  void Add(int line, std::string_view path, std::string_view text);

  bool empty() const { return faults_.empty(); }

  // "FILE:LINE: path: text", sorted by line; at most kMost, then the number of
  // the others.
  std::vector<std::string> Lines() const;

 private:
  const std::string file_;
  std::multimap<int, std::string> faults_;
};

// Parses one document. An empty one gives a kNull. False: a fault was added to
// `faults`.
bool ParseYaml(std::string_view text, YamlNode* root, ConfigFaults* faults);

// `text` in double quotes, with unprintable characters escaped, for a message
// or as a YAML value.
std::string Quoted(std::string_view text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_YAML_H_
