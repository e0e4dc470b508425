#include "client/cli/json.h"

#include <charconv>
#include <cmath>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "google/protobuf/util/time_util.h"

namespace hotline::client {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::TimeUtil;

void AppendQuoted(std::string_view text, std::string* out) {
  out->push_back('"');
  AppendEscaped(out, text, Escape::kJson);
  out->push_back('"');
}

// The fewest digits that read back as the same number. JSON has no infinity.
void AppendNumber(double value, std::string* out) {
  if (!std::isfinite(value)) return AppendQuoted(absl::StrCat(value), out);
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out->append(digits, end);
}

void AppendMessage(const Message& message, int depth, std::string* out);

// The field's value, or, with `index` >= 0, that element of a repeated field.
void AppendValue(const Message& message, const FieldDescriptor* field,
                 int index, int depth, std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  const auto get = [&](auto one, auto element) {
    return index < 0 ? (reflection.*one)(message, field)
                     : (reflection.*element)(message, field, index);
  };
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrAppend(
          out, get(&Reflection::GetInt32, &Reflection::GetRepeatedInt32));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrAppend(
          out, get(&Reflection::GetInt64, &Reflection::GetRepeatedInt64));
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrAppend(
          out, get(&Reflection::GetUInt32, &Reflection::GetRepeatedUInt32));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrAppend(
          out, get(&Reflection::GetUInt64, &Reflection::GetRepeatedUInt64));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return AppendNumber(
          get(&Reflection::GetDouble, &Reflection::GetRepeatedDouble), out);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return AppendNumber(
          get(&Reflection::GetFloat, &Reflection::GetRepeatedFloat), out);
    case FieldDescriptor::CPPTYPE_BOOL:
      out->append(get(&Reflection::GetBool, &Reflection::GetRepeatedBool)
                      ? "true"
                      : "false");
      return;
    case FieldDescriptor::CPPTYPE_ENUM:
      return AppendQuoted(
          get(&Reflection::GetEnum, &Reflection::GetRepeatedEnum)->name(), out);
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text =
          get(&Reflection::GetString, &Reflection::GetRepeatedString);
      return AppendQuoted(field->type() == FieldDescriptor::TYPE_BYTES
                              ? absl::Base64Escape(text)
                              : text,
                          out);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return AppendMessage(
          index < 0 ? reflection.GetMessage(message, field)
                    : reflection.GetRepeatedMessage(message, field, index),
          depth, out);
  }
}

void AppendList(const Message& message, const FieldDescriptor* field, int depth,
                std::string* out) {
  const int size = message.GetReflection()->FieldSize(message, field);
  out->push_back('[');
  for (int i = 0; i < size; ++i) {
    absl::StrAppend(out, i > 0 ? ",\n" : "\n", std::string(depth + 1, ' '));
    AppendValue(message, field, i, depth + 1, out);
  }
  if (size > 0) absl::StrAppend(out, "\n", std::string(depth, ' '));
  out->push_back(']');
}

void AppendMessage(const Message& message, int depth, std::string* out) {
  if (const auto* duration =
          dynamic_cast<const google::protobuf::Duration*>(&message)) {
    return AppendQuoted(TimeUtil::ToString(*duration), out);
  }
  if (const auto* time =
          dynamic_cast<const google::protobuf::Timestamp*>(&message)) {
    return AppendQuoted(TimeUtil::ToString(*time), out);
  }
  const auto* descriptor = message.GetDescriptor();
  out->push_back('{');
  bool first = true;
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->has_presence() &&
        !message.GetReflection()->HasField(message, field)) {
      continue;
    }
    absl::StrAppend(out, first ? "\n" : ",\n", std::string(depth + 1, ' '),
                    "\"", field->name(), "\": ");
    first = false;
    if (field->is_repeated()) {
      AppendList(message, field, depth + 1, out);
    } else {
      AppendValue(message, field, /*index=*/-1, depth + 1, out);
    }
  }
  if (!first) absl::StrAppend(out, "\n", std::string(depth, ' '));
  out->push_back('}');
}

}  // namespace

std::string FormatJson(const google::protobuf::Message& message) {
  std::string json;
  AppendMessage(message, 0, &json);
  return json + "\n";
}

}  // namespace hotline::client
