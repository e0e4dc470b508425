#include "server/config/proto.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/duration.pb.h"
#include "server/broker/proto_time.h"
#include "server/config/outside.h"
#include "server/config/values.h"

namespace hotline::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// The edit distance of two words.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

std::string UnknownKey(std::string_view key, const Descriptor& type) {
  size_t best = key.size() < 5 ? 1 : key.size() < 8 ? 2 : 3;
  std::string_view guess;
  for (int i = 0; i < type.field_count() && key.size() < 100; ++i) {
    const std::string_view name = type.field(i)->name();
    const size_t distance = EditDistance(key, name);
    if (distance < best || (distance == best && guess.empty())) {
      best = distance;
      guess = name;
    }
  }
  if (guess.empty()) return "unknown key";
  return absl::StrCat("unknown key (did you mean ", std::string(guess), "?)");
}

// A value for a message: short, on one line.
std::string Shown(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
    case YamlNode::Kind::kScalar:
      break;
  }
  std::string text = node.text.substr(0, 40);
  if (text.size() < node.text.size()) text += "...";
  return node.quoted ? absl::StrCat("the text ", Quoted(text)) : text;
}

bool LooksLikeNumber(const std::string& text) {
  double ignored;
  return absl::SimpleAtod(text, &ignored);
}

std::optional<int64_t> ParseInteger(const std::string& text) {
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : absl::StrCat(path, ".", name);
}

class Filler {
 public:
  Filler(const ConfigLookup& lookup, ConfigSource* source, ConfigFaults* faults)
      : lookup_(lookup), source_(source), faults_(faults) {}

  void FillMessage(const YamlNode& node, const std::string& path,
                   Message* message) {
    if (node.kind == YamlNode::Kind::kNull) return;  // An empty section.
    if (node.kind != YamlNode::Kind::kMap) {
      return Expected(node, path, "a mapping (key: value)");
    }
    const Descriptor& type = *message->GetDescriptor();
    std::map<std::string, Place> seen;
    for (size_t i = 0; i < node.values.size(); ++i) {
      const std::string& key = node.keys[i];
      const Place place = node.key_places[i];
      const std::string key_path = Join(path, key);
      const FieldDescriptor* const field = type.FindFieldByName(key);
      if (field == nullptr) {
        const std::string shown = key.substr(0, 60);
        faults_->Add(place, path.empty() ? shown : path + "." + shown,
                     UnknownKey(key, type));
        continue;
      }
      const auto [first, added] = seen.emplace(key, place);
      if (!added) {
        faults_->Add(place, key_path,
                     absl::StrCat("given twice (first in line ",
                                  first->second.line, ")"));
        continue;
      }
      const YamlNode& value = node.values[i];
      const bool scalar = value.kind == YamlNode::Kind::kScalar;
      source_->places.emplace(key_path, scalar ? value.place : place);
      if (field->is_repeated()) {
        FillList(value, key_path, *field, message);
      } else {
        FillOne(value, key_path, *field, message);
      }
    }
  }

 private:
  void Expected(const YamlNode& node, const std::string& path,
                std::string_view what) {
    std::string text =
        absl::StrCat("expected ", std::string(what), ", not ", Shown(node));
    if (node.kind == YamlNode::Kind::kScalar &&
        node.text.find("${") != std::string::npos) {
      text += ": references stand for text only";
    }
    faults_->Add(node.place, path, text);
  }

  void FillList(const YamlNode& node, const std::string& path,
                const FieldDescriptor& field, Message* message) {
    if (node.kind == YamlNode::Kind::kNull) return;
    if (node.kind != YamlNode::Kind::kList) {
      return Expected(node, path, "a list");
    }
    const Reflection& reflection = *message->GetReflection();
    for (size_t i = 0; i < node.values.size(); ++i) {
      const std::string item_path = absl::StrCat(path, "[", i, "]");
      const YamlNode& item = node.values[i];
      source_->places.emplace(item_path, item.place);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        FillMessage(item, item_path, reflection.AddMessage(message, &field));
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
        // Faulty entries keep their place in the list.
        reflection.AddInt64(message, &field,
                            Integer(item, item_path).value_or(0));
      } else {
        reflection.AddString(message, &field,
                             Text(item, item_path).value_or(""));
      }
    }
  }

  void FillOne(const YamlNode& node, const std::string& path,
               const FieldDescriptor& field, Message* message) {
    const Reflection& reflection = *message->GetReflection();
    if (IsDuration(field)) return FillDurationField(node, path, field, message);
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return FillMessage(node, path,
                           reflection.MutableMessage(message, &field));
      case FieldDescriptor::CPPTYPE_STRING:
        if (const auto text = Text(node, path)) {
          reflection.SetString(message, &field, *text);
        }
        return;
      case FieldDescriptor::CPPTYPE_BOOL:
        if (node.kind != YamlNode::Kind::kScalar || node.quoted ||
            (node.text != "true" && node.text != "false")) {
          return Expected(node, path, "true or false");
        }
        return reflection.SetBool(message, &field, node.text == "true");
      default:
        return FillInteger(node, path, field, message);
    }
  }

  void FillInteger(const YamlNode& node, const std::string& path,
                   const FieldDescriptor& field, Message* message) {
    const std::optional<int64_t> value =
        IsSize(field) ? Size(node, path) : Integer(node, path);
    if (!value) return;
    const bool narrow = field.cpp_type() == FieldDescriptor::CPPTYPE_INT32;
    if (narrow && *value != static_cast<int32_t>(*value)) {
      return faults_->Add(node.place, path,
                          absl::StrCat(*value, " is out of range"));
    }
    if (narrow) {
      message->GetReflection()->SetInt32(message, &field,
                                         static_cast<int32_t>(*value));
    } else {
      message->GetReflection()->SetInt64(message, &field, *value);
    }
  }

  std::optional<int64_t> Integer(const YamlNode& node,
                                 const std::string& path) {
    std::optional<int64_t> value;
    if (node.kind == YamlNode::Kind::kScalar && !node.quoted) {
      value = ParseInteger(node.text);
    }
    if (!value) Expected(node, path, "a whole number");
    return value;
  }

  std::optional<int64_t> Size(const YamlNode& node, const std::string& path) {
    // A number without a unit is one like all others.
    if (node.kind != YamlNode::Kind::kScalar || LooksLikeNumber(node.text)) {
      return Integer(node, path);
    }
    std::string wrong;
    const auto size = ParseSize(node.text, &wrong);
    if (!size) faults_->Add(node.place, path, wrong);
    return size;
  }

  void FillDurationField(const YamlNode& node, const std::string& path,
                         const FieldDescriptor& field, Message* message) {
    std::optional<Duration> length;
    if (node.kind == YamlNode::Kind::kScalar) length = ParseDuration(node.text);
    if (!length) {
      return Expected(node, path,
                      "a duration such as \"45s\", \"500ms\" or \"1h30m\"");
    }
    SetDuration(message, field, *length);
  }

  std::optional<std::string> Text(const YamlNode& node,
                                  const std::string& path) {
    if (node.kind != YamlNode::Kind::kScalar ||
        (!node.quoted && (LooksLikeNumber(node.text) || node.text == "true" ||
                          node.text == "false"))) {
      Expected(node, path, "text (in quotes)");
      return std::nullopt;
    }
    absl::StatusOr<Expanded> expanded = Expand(node.text, lookup_);
    if (!expanded.ok()) {
      const std::string reason(expanded.status().message());
      faults_->Add(node.place, path, reason);
      return std::nullopt;
    }
    if (expanded->text.find('\0') != std::string::npos) {
      faults_->Add(node.place, path, "must not contain a NUL");
      return std::nullopt;
    }
    if (expanded->from_file) {
      source_->hidden.emplace(path, HiddenValue{expanded->text, node.text});
    }
    return std::move(expanded->text);
  }

  const ConfigLookup& lookup_;
  ConfigSource* const source_;
  ConfigFaults* const faults_;
};

}  // namespace

void FillFromYaml(const YamlNode& root, const ConfigLookup& lookup,
                  Message* message, ConfigSource* source,
                  ConfigFaults* faults) {
  Filler(lookup, source, faults).FillMessage(root, "", message);
}

bool IsSize(const FieldDescriptor& field) {
  return absl::EndsWith(field.name(), "_bytes");
}

bool IsDuration(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
         field.message_type() == google::protobuf::Duration::descriptor();
}

Duration GetDuration(const Message& message, const FieldDescriptor& field) {
  return FromProto(static_cast<const google::protobuf::Duration&>(
      message.GetReflection()->GetMessage(message, &field)));
}

void SetDuration(Message* message, const FieldDescriptor& field,
                 Duration length) {
  FillDuration(length,
               static_cast<google::protobuf::Duration*>(
                   message->GetReflection()->MutableMessage(message, &field)));
}

}  // namespace hotline::server
