#include "server/config/proto.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/duration.pb.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// A century: a longer duration is a mistake, and the sum of two still fits.
constexpr int64_t kMaxSeconds = int64_t{100} * 365 * 24 * 3600;

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

// Reads protobuf's JSON form: "45s", "0.5s".
std::optional<Duration> ParseDuration(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (!text.ends_with('s')) return std::nullopt;
  text.remove_suffix(1);
  const size_t dot = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, dot);
  std::string fraction(text.substr(std::min(dot + 1, text.size())));
  if (whole.empty() || whole.size() > 12 || fraction.size() > 9 ||
      (dot < text.size() && fraction.empty())) {
    return std::nullopt;
  }
  const auto digits = [](std::string_view s) {
    return s.find_first_not_of("0123456789") == std::string_view::npos;
  };
  if (!digits(whole) || !digits(fraction)) return std::nullopt;
  fraction.resize(9, '0');
  const int64_t seconds =
      std::min(*ParseInteger(std::string(whole)), kMaxSeconds + 1);
  const Duration length =
      std::chrono::seconds(seconds) + Duration(*ParseInteger(fraction));
  return negative ? -length : length;
}

class Filler {
 public:
  Filler(ConfigLines* lines, ConfigFaults* faults)
      : lines_(lines), faults_(faults) {}

  void FillMessage(const YamlNode& node, const std::string& path,
                   Message* message) {
    if (node.kind == YamlNode::Kind::kNull) return;  // An empty section.
    if (node.kind != YamlNode::Kind::kMap) {
      return Expected(node, path, "a mapping (key: value)");
    }
    const Descriptor& type = *message->GetDescriptor();
    std::map<std::string, int> seen;
    for (size_t i = 0; i < node.values.size(); ++i) {
      const std::string& key = node.keys[i];
      const int line = node.key_lines[i];
      const std::string key_path =
          path.empty() ? key : absl::StrCat(path, ".", key);
      const FieldDescriptor* const field = type.FindFieldByName(key);
      if (field == nullptr) {
        const std::string shown = key.substr(0, 60);
        faults_->Add(line, path.empty() ? shown : path + "." + shown,
                     UnknownKey(key, type));
        continue;
      }
      const auto [first, added] = seen.emplace(key, line);
      if (!added) {
        faults_->Add(
            line, key_path,
            absl::StrCat("given twice (first in line ", first->second, ")"));
        continue;
      }
      lines_->emplace(key_path, line);
      if (field->is_repeated()) {
        FillList(node.values[i], key_path, *field, message);
      } else {
        FillOne(node.values[i], key_path, *field, message);
      }
    }
  }

 private:
  void Expected(const YamlNode& node, const std::string& path,
                std::string_view what) {
    faults_->Add(
        node.line, path,
        absl::StrCat("expected ", std::string(what), ", not ", Shown(node)));
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
      lines_->emplace(item_path, item.line);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        FillMessage(item, item_path, reflection.AddMessage(message, &field));
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
        if (const auto value = Integer(item, item_path)) {
          reflection.AddInt64(message, &field, *value);
        }
      } else if (const auto text = Text(item, item_path)) {
        reflection.AddString(message, &field, *text);
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
    const std::optional<int64_t> value = Integer(node, path);
    if (!value) return;
    const bool narrow = field.cpp_type() == FieldDescriptor::CPPTYPE_INT32;
    if (narrow && *value != static_cast<int32_t>(*value)) {
      return faults_->Add(node.line, path,
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

  void FillDurationField(const YamlNode& node, const std::string& path,
                         const FieldDescriptor& field, Message* message) {
    std::optional<Duration> length;
    if (node.kind == YamlNode::Kind::kScalar) length = ParseDuration(node.text);
    if (!length) {
      return Expected(node, path, "a duration in seconds such as \"45s\"");
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
    if (node.text.find('\0') != std::string::npos) {
      faults_->Add(node.line, path, "must not contain a NUL");
      return std::nullopt;
    }
    return node.text;
  }

  ConfigLines* const lines_;
  ConfigFaults* const faults_;
};

// `items`: the message is an item of a list, so its empty lists are omitted.
void PrintMessage(const Message& message, const std::string& indent, bool items,
                  std::string* out);

void PrintList(const Message& message, const FieldDescriptor& field,
               const std::string& indent, std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  const int size = reflection.FieldSize(message, &field);
  if (size == 0) {
    absl::StrAppend(out, " []\n");
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    absl::StrAppend(out, "\n");
    for (int i = 0; i < size; ++i) {
      std::string item;
      PrintMessage(reflection.GetRepeatedMessage(message, &field, i),
                   indent + "    ", /*items=*/true, &item);
      item[indent.size() + 2] = '-';
      absl::StrAppend(out, item);
    }
  } else {
    absl::StrAppend(out, " [");
    for (int i = 0; i < size; ++i) {
      absl::StrAppend(
          out, i == 0 ? "" : ", ",
          field.cpp_type() == FieldDescriptor::CPPTYPE_INT64
              ? absl::StrCat(reflection.GetRepeatedInt64(message, &field, i))
              : Quoted(reflection.GetRepeatedString(message, &field, i)));
    }
    absl::StrAppend(out, "]\n");
  }
}

void PrintMessage(const Message& message, const std::string& indent, bool items,
                  std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.has_presence() && !reflection.HasField(message, &field)) continue;
    if (items && field.is_repeated() &&
        reflection.FieldSize(message, &field) == 0) {
      continue;
    }
    absl::StrAppend(out, indent, field.name(), ":");
    if (field.is_repeated()) {
      PrintList(message, field, indent, out);
    } else if (IsDuration(field)) {
      absl::StrAppend(
          out, " ", Quoted(FormatDuration(GetDuration(message, field))), "\n");
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      absl::StrAppend(out, "\n");
      PrintMessage(reflection.GetMessage(message, &field), indent + "  ", items,
                   out);
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      absl::StrAppend(out, " ", Quoted(reflection.GetString(message, &field)),
                      "\n");
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
      absl::StrAppend(
          out, reflection.GetBool(message, &field) ? " true\n" : " false\n");
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT32) {
      absl::StrAppend(out, " ", reflection.GetInt32(message, &field), "\n");
    } else {
      absl::StrAppend(out, " ", reflection.GetInt64(message, &field), "\n");
    }
  }
}

}  // namespace

void FillFromYaml(const YamlNode& root, Message* message, ConfigLines* lines,
                  ConfigFaults* faults) {
  Filler(lines, faults).FillMessage(root, "", message);
}

std::string ToYaml(const Message& message) {
  std::string out;
  PrintMessage(message, "", /*items=*/false, &out);
  return out;
}

std::string FormatDuration(Duration length) {
  const int64_t ns = length.count();
  std::string out =
      absl::StrCat(ns < 0 ? "-" : "", std::abs(ns / 1'000'000'000));
  if (const int64_t rest = std::abs(ns % 1'000'000'000); rest != 0) {
    std::string fraction = absl::StrCat(rest + 1'000'000'000);
    fraction[0] = '.';
    fraction.erase(fraction.find_last_not_of('0') + 1);
    out += fraction;
  }
  return out + "s";
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
