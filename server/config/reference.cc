// Writes what docs/configuration.md and deploy/hotline.schema.json contain:
//
//   reference markdown|schema DESCRIPTORS
//
// DESCRIPTORS is config.proto's FileDescriptorSet with its comments. Those give
// the words; rules.h gives bounds, defaults and choices.

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/read_file.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "server/config/proto.h"
#include "server/config/rules.h"
#include "server/config/values.h"

namespace hotline::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::SourceLocation;

enum class Type { kSection, kText, kChoice, kBool, kNumber, kSize, kDuration };

// A key, and for lists an entry of it.
struct Key {
  const FieldDescriptor* field;
  std::string path;  // Without indices.
  Type type;
  std::string comment;
};

// Without the blank that begins each line.
template <typename Described>
std::string CommentOf(const Described& described) {
  SourceLocation location;
  if (!described.GetSourceLocation(&location)) return "";
  std::vector<std::string> lines =
      absl::StrSplit(location.leading_comments, '\n');
  for (std::string& line : lines) {
    if (line.starts_with(' ')) line.erase(0, 1);
  }
  std::string text = absl::StrJoin(lines, "\n");
  absl::StripTrailingAsciiWhitespace(&text);
  return text;
}

Type TypeOf(const FieldDescriptor& field, const std::string& path) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return field.message_type()->full_name() == "google.protobuf.Duration"
                 ? Type::kDuration
                 : Type::kSection;
    case FieldDescriptor::CPPTYPE_STRING:
      return ChoiceRuleOf(path) == nullptr ? Type::kText : Type::kChoice;
    case FieldDescriptor::CPPTYPE_BOOL:
      return Type::kBool;
    default:
      return IsSize(field) ? Type::kSize : Type::kNumber;
  }
}

std::vector<Key> KeysOf(const Descriptor& section, const std::string& path) {
  std::vector<Key> keys;
  for (int i = 0; i < section.field_count(); ++i) {
    const FieldDescriptor& field = *section.field(i);
    const std::string mine =
        absl::StrCat(path, path.empty() ? "" : ".", field.name());
    keys.push_back({&field, mine, TypeOf(field, mine), CommentOf(field)});
  }
  return keys;
}

// JSON, one member a line.

std::string Json(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + "\"";
}

struct Schema {
  std::string out;
  std::string indent = "  ";

  void Member(const std::string& name, const std::string& value) {
    absl::StrAppend(&out, indent, "\"", name, "\": ", value, ",\n");
  }
  void Open(const std::string& name) {
    absl::StrAppend(&out, indent, "\"", name, "\": {\n");
    indent += "  ";
  }
  void Close() {
    if (absl::EndsWith(out, ",\n")) out.erase(out.size() - 2, 1);
    indent.resize(indent.size() - 2);
    absl::StrAppend(&out, indent, "},\n");
  }

  void Section(const Descriptor& section, const std::string& path) {
    const std::vector<Key> keys = KeysOf(section, path);
    std::vector<std::string> required;
    for (const Key& key : keys) {
      if (key.comment.starts_with("Required")) {
        required.push_back(Json(key.field->name()));
      }
    }
    if (!required.empty()) {
      Member("required", absl::StrCat("[", absl::StrJoin(required, ", "), "]"));
    }
    Member("additionalProperties", "false");
    Open("properties");
    for (const Key& key : keys) {
      Open(key.field->name());
      Property(key);
      Close();
    }
    Close();
  }

  void Property(const Key& key) {
    const bool list = key.field->is_repeated();
    std::string comment = key.comment;
    if (comment.empty() && key.type == Type::kSection) {
      comment = CommentOf(*key.field->message_type());
    }
    if (!comment.empty()) Member("description", Json(comment));
    if (list) {
      Member("type", R"(["array", "null"])");
      Open("items");
    }
    Value(key, list);
    if (list) Close();
  }

  void Value(const Key& key, bool item) {
    switch (key.type) {
      case Type::kSection:
        Member("type", item ? R"("object")" : R"(["object", "null"])");
        return Section(*key.field->message_type(), key.path);
      case Type::kText:
        return Member("type", R"("string")");
      case Type::kChoice:
        return Choice(*ChoiceRuleOf(key.path));
      case Type::kBool:
        return Member("type", R"("boolean")");
      case Type::kNumber:
        Member("type", R"("integer")");
        return Number(*NumberRuleOf(key.path));
      case Type::kSize:
        Member("type", R"(["integer", "string"])");
        Member("pattern", R"("^[0-9]+([KMG]i?B)$")");
        return Number(*NumberRuleOf(key.path));
      case Type::kDuration:
        Member("type", R"("string")");
        Member("pattern",
               R"("^([0-9]+(h|m|s))*[0-9]+([.][0-9]+)?(h|m|s|ms)$")");
        if (const auto& usual = DurationRuleOf(key.path)->otherwise) {
          Member("default", Json(FormatDuration(*usual)));
        }
    }
  }

  void Number(const NumberRule& rule) {
    Member("minimum", absl::StrCat(rule.least));
    Member("maximum", absl::StrCat(rule.most));
    if (rule.otherwise) Member("default", absl::StrCat(*rule.otherwise));
  }

  // A reference may stand for it, too.
  void Choice(const ChoiceRule& rule) {
    std::vector<std::string> choices;
    for (const std::string& choice : rule.choices) {
      choices.push_back(Json(choice));
    }
    Member("anyOf", absl::StrCat("[{\"enum\": [", absl::StrJoin(choices, ", "),
                                 R"(]}, {"type": "string", )",
                                 R"("pattern": "[$][{]"}])"));
    Member("default", choices[0]);
  }
};

std::string SchemaOf(const Descriptor& config) {
  Schema schema;
  schema.Member("$schema", Json("http://json-schema.org/draft-07/schema#"));
  schema.Member("title", Json("hotlined"));
  schema.Member("type", R"(["object", "null"])");
  schema.Section(config, "");
  schema.out.erase(schema.out.size() - 2, 1);
  return absl::StrCat("{\n", schema.out, "}\n");
}

// Markdown.

// A comment, with its lists as they are.
std::string Prose(const std::string& comment) {
  std::string out;
  bool in_code = false;
  bool in_list = false;
  for (const auto& line : absl::StrSplit(comment, '\n')) {
    const bool listed = absl::StartsWith(line, "  ");
    if (listed != in_list) out += '\n';
    in_list = listed;
    if (listed) out += "  ";
    for (const char c : line) {
      if (c == '`') in_code = !in_code;
      if (!in_code && !listed && (c == '*' || c == '<')) out += '\\';
      out += c;
    }
    out += '\n';
  }
  return out;
}

std::string TypeName(const Key& key) {
  const bool list = key.field->is_repeated();
  switch (key.type) {
    case Type::kSection:
      return list ? "list of sections" : "section";
    case Type::kText:
      return list ? "list of text" : "text";
    case Type::kChoice:
      return "text";
    case Type::kBool:
      return "true or false";
    case Type::kNumber:
      return list ? "list of numbers" : "number";
    case Type::kSize:
      return "bytes";
    case Type::kDuration:
      return "duration";
  }
  return "";
}

void AppendSection(const Descriptor& section, const std::string& path,
                   std::string* out) {
  const std::vector<Key> keys = KeysOf(section, path);
  for (const Key& key : keys) {
    if (key.type == Type::kSection) continue;
    absl::StrAppend(out, "### ", key.path, "\n\n", TypeName(key), "\n\n",
                    Prose(key.comment), "\n");
  }
  for (const Key& key : keys) {
    if (key.type != Type::kSection) continue;
    const Descriptor& type = *key.field->message_type();
    absl::StrAppend(out, "## ", key.path, "\n\n", TypeName(key), "\n\n");
    for (const std::string& comment : {key.comment, CommentOf(type)}) {
      if (!comment.empty()) absl::StrAppend(out, Prose(comment), "\n");
    }
    AppendSection(type, key.path, out);
  }
}

std::string MarkdownOf(const Descriptor& config) {
  std::string out =
      "<!-- Generated: bazel build //docs:configuration -->\n\n"
      "# Configuration\n\n";
  absl::StrAppend(&out, Prose(CommentOf(config)), "\n");
  AppendSection(config, "", &out);
  out.pop_back();
  return out;
}

int Main(const std::vector<std::string>& words) {
  google::protobuf::FileDescriptorSet files;
  const auto bytes = words.size() == 2
                         ? ReadFile(words[1], 1 << 24)
                         : absl::InvalidArgumentError("two words are needed");
  if (!bytes.ok() || !files.ParseFromString(*bytes)) return 1;
  google::protobuf::DescriptorPool pool;
  for (const auto& file : files.file()) pool.BuildFile(file);
  const Descriptor* const config =
      pool.FindMessageTypeByName("hotline.v1.Config");
  if (config == nullptr) return 1;
  const std::string text =
      words[0] == "schema" ? SchemaOf(*config) : MarkdownOf(*config);
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() ? 0
                                                                         : 1;
}

}  // namespace
}  // namespace hotline::server

int main(int argc, char** argv) {
  return hotline::server::Main({argv + 1, argv + argc});
}
