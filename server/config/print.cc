#include "server/config/print.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/url.h"
#include "google/protobuf/descriptor.h"
#include "server/config/outside.h"
#include "server/config/proto.h"
#include "server/config/values.h"

namespace hotline::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : absl::StrCat(path, ".", name);
}

// Text as it is written, or printed for it to be read back.
std::string PrintText(const std::string& text, const std::string& path,
                      const HiddenValues& hidden) {
  const auto found = hidden.find(path);
  return Quoted(found == hidden.end() ? WithoutReferences(text)
                                      : found->second.written);
}

std::string PrintList(const Message& message, const FieldDescriptor& field,
                      const std::string& path, const HiddenValues& hidden) {
  const Reflection& reflection = *message.GetReflection();
  std::string out = "[";
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    absl::StrAppend(
        &out, i == 0 ? "" : ", ",
        field.cpp_type() == FieldDescriptor::CPPTYPE_INT64
            ? absl::StrCat(reflection.GetRepeatedInt64(message, &field, i))
            : PrintText(reflection.GetRepeatedString(message, &field, i),
                        absl::StrCat(path, "[", i, "]"), hidden));
  }
  return out + "]";
}

// REQUIRES: no section, nor a list of them.
std::string PrintValue(const Message& message, const FieldDescriptor& field,
                       const std::string& path, const HiddenValues& hidden) {
  const Reflection& reflection = *message.GetReflection();
  if (field.is_repeated()) return PrintList(message, field, path, hidden);
  if (IsDuration(field)) {
    return Quoted(FormatDuration(GetDuration(message, field)));
  }
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return PrintText(reflection.GetString(message, &field), path, hidden);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(reflection.GetInt32(message, &field));
    default:
      return absl::StrCat(reflection.GetInt64(message, &field));
  }
}

bool IsSection(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
         !IsDuration(field);
}

// The fields to print. `items`: the message is an item of a list, so its empty
// lists are omitted.
std::vector<const FieldDescriptor*> FieldsOf(const Message& message,
                                             bool items) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> out;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.has_presence() && !reflection.HasField(message, &field)) continue;
    if (items && field.is_repeated() &&
        reflection.FieldSize(message, &field) == 0) {
      continue;
    }
    out.push_back(&field);
  }
  return out;
}

struct Printer {
  const HiddenValues& hidden;
  std::string out;

  void Print(const Message& message, const std::string& path,
             const std::string& indent, bool items) {
    const Reflection& reflection = *message.GetReflection();
    for (const FieldDescriptor* field : FieldsOf(message, items)) {
      const std::string mine = Join(path, field->name());
      absl::StrAppend(&out, indent, field->name(), ":");
      if (!IsSection(*field)) {
        absl::StrAppend(&out, " ", PrintValue(message, *field, mine, hidden),
                        "\n");
      } else if (field->is_repeated()) {
        PrintSections(message, *field, mine, indent);
      } else {
        out += "\n";
        Print(reflection.GetMessage(message, field), mine, indent + "  ",
              items);
      }
    }
  }

  void PrintSections(const Message& message, const FieldDescriptor& field,
                     const std::string& path, const std::string& indent) {
    const Reflection& reflection = *message.GetReflection();
    const int size = reflection.FieldSize(message, &field);
    out += size == 0 ? " []\n" : "\n";
    for (int i = 0; i < size; ++i) {
      const size_t begin = out.size();
      Print(reflection.GetRepeatedMessage(message, &field, i),
            absl::StrCat(path, "[", i, "]"), indent + "    ", /*items=*/true);
      out[begin + indent.size() + 2] = '-';
    }
  }
};

struct Visitor {
  const HiddenValues& hidden;
  const VisitValue& visit;

  void Visit(const Message& message, const std::string& path,
             const std::string& key, bool items) const {
    const Reflection& reflection = *message.GetReflection();
    for (const FieldDescriptor* field : FieldsOf(message, items)) {
      const std::string my_path = Join(path, field->name());
      const std::string my_key = Join(key, field->name());
      if (!IsSection(*field)) {
        visit(my_key, {PrintValue(message, *field, my_path, {}),
                       PrintValue(message, *field, my_path, hidden)});
      } else if (!field->is_repeated()) {
        Visit(reflection.GetMessage(message, field), my_path, my_key, items);
      } else {
        for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
          const Message& item =
              reflection.GetRepeatedMessage(message, field, i);
          Visit(item, absl::StrCat(my_path, "[", i, "]"),
                absl::StrCat(my_key, "[", NameOf(item, i), "]"),
                /*items=*/true);
        }
      }
    }
  }

  static std::string NameOf(const Message& item, int index) {
    const Descriptor& type = *item.GetDescriptor();
    const Reflection& reflection = *item.GetReflection();
    if (const auto* const name = type.FindFieldByName("name")) {
      return reflection.GetString(item, name);
    }
    const auto* const target = type.FindFieldByName("target");
    ParsedTarget parsed;
    if (target == nullptr ||
        ParseTarget(reflection.GetString(item, target), &parsed)) {
      return absl::StrCat(index);
    }
    return parsed.canonical;
  }
};

}  // namespace

std::string ToYaml(const Message& message, const HiddenValues& hidden) {
  Printer printer{hidden, ""};
  printer.Print(message, "", "", /*items=*/false);
  return std::move(printer.out);
}

void VisitValues(const Message& message, const HiddenValues& hidden,
                 const VisitValue& visit) {
  Visitor{hidden, visit}.Visit(message, "", "", /*items=*/false);
}

}  // namespace hotline::server
