// YAML as a small tree with line numbers, within bounds. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_YAML_H_
#define HOTLINE_SERVER_CONFIG_YAML_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hotline::server {

// A value. Scalars keep their text and whether they were quoted: what an
// unquoted one means is for whoever knows the type that is wanted.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  int line = 1;         // From 1.
  bool quoted = false;  // kScalar: in quotes, or a block of text.
  std::string text;     // kScalar.
  // kList: in order, with empty keys. kMap: in order, doubles included.
  std::vector<std::string> keys;
  std::vector<int> key_lines;
  std::vector<YamlNode> values;
};

// What is wrong with a file, by line.
class ConfigFaults {
 public:
  static constexpr size_t kMost = 20;

  explicit ConfigFaults(std::string_view file) : file_(file) {}

  // `path` may be empty: the fault is the file's.
  void Add(int line, std::string_view path, std::string_view text);

  bool empty() const { return faults_.empty(); }

  // "FILE:LINE: path: text", sorted by line; past kMost, how many more.
  std::vector<std::string> Lines() const;

 private:
  const std::string file_;
  std::multimap<int, std::string> faults_;
};

// Reads one document. Nothing but a comment gives a kNull. False: `faults` says
// why.
bool ParseYaml(std::string_view text, YamlNode* root, ConfigFaults* faults);

// `text` for a message or as a YAML value: in double quotes, with everything
// unprintable escaped.
std::string Quoted(std::string_view text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_YAML_H_
