// Parses YAML into a small tree with the places of its values. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_YAML_H_
#define HOTLINE_SERVER_CONFIG_YAML_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/config/faults.h"

namespace hotline::server {

// A value. Scalars keep their text and whether they were quoted: the meaning of
// an unquoted one depends on the type that its reader expects.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  Place place;
  bool quoted = false;  // kScalar: in quotes, or a block scalar.
  std::string text;     // kScalar.
  // kList: in order, without keys. kMap: in order, duplicates included.
  std::vector<std::string> keys;
  std::vector<Place> key_places;
  std::vector<YamlNode> values;
};

// Parses one document. An empty one gives a kNull. False: a fault was added to
// `faults`.
bool ParseYaml(std::string_view text, YamlNode* root, ConfigFaults* faults);

// The first tab in the indentation of a line with content. YAML forbids it
// before most of its constructs, which a reader reports in obscure words or
// not at all.
std::optional<Place> TabInIndentation(std::string_view text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_YAML_H_
