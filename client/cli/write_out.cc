#include "client/cli/write_out.h"

#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time.h"
#include "client/cli/usage.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

std::string Seconds(const google::protobuf::Duration& duration) {
  return absl::StrFormat("%.6f", ToSeconds(FromProto(duration)));
}

struct Variable {
  const char* name;
  std::string (*value)(const AnswerFacts& facts);
};

using Facts = const AnswerFacts&;

// With the names of the receipt's fields.
constexpr Variable kVariables[] = {
    {"url", [](Facts f) { return f.request.url(); }},
    {"method", [](Facts f) { return f.request.method(); }},
    {"status", [](Facts f) { return absl::StrCat(f.status); }},
    {"size", [](Facts f) { return absl::StrCat(f.size); }},
    {"attempts", [](Facts f) { return absl::StrCat(f.receipt.attempts()); }},
    {"connection_id",
     [](Facts f) {
       return absl::StrCat(f.receipt.connection().connection_id());
     }},
    {"reused",
     [](Facts f) -> std::string {
       return f.receipt.connection().reused() ? "true" : "false";
     }},
    {"calls",
     [](Facts f) { return absl::StrCat(f.receipt.connection().calls()); }},
    {"protocol", [](Facts f) { return f.receipt.connection().protocol(); }},
    {"remote_address",
     [](Facts f) { return f.receipt.connection().remote_address(); }},
    {"tls_version",
     [](Facts f) { return f.receipt.connection().tls_version(); }},
    {"tls_cipher", [](Facts f) { return f.receipt.connection().tls_cipher(); }},
    {"wait", [](Facts f) { return Seconds(f.receipt.timings().wait()); }},
    {"resolve", [](Facts f) { return Seconds(f.receipt.timings().resolve()); }},
    {"connect", [](Facts f) { return Seconds(f.receipt.timings().connect()); }},
    {"tls", [](Facts f) { return Seconds(f.receipt.timings().tls()); }},
    {"validate",
     [](Facts f) { return Seconds(f.receipt.timings().validate()); }},
    {"first_byte",
     [](Facts f) { return Seconds(f.receipt.timings().first_byte()); }},
    {"transfer",
     [](Facts f) { return Seconds(f.receipt.timings().transfer()); }},
    {"total", [](Facts f) { return Seconds(f.receipt.timings().total()); }},
};

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const Variable& variable : kVariables) names.push_back(variable.name);
  return names;
}

const Variable* Find(std::string_view name) {
  for (const Variable& variable : kVariables) {
    if (name == variable.name) return &variable;
  }
  return nullptr;
}

// Appends what begins `rest`, a \ or % included, and removes it from there.
void AppendNext(std::string_view* rest, const AnswerFacts& facts,
                std::string* out) {
  constexpr std::string_view kEscapes[] = {"\\n\n", "\\r\r", "\\t\t", "%%%"};
  for (const std::string_view escape : kEscapes) {
    if (rest->compare(0, 2, escape.substr(0, 2)) != 0) continue;
    out->push_back(escape[2]);
    return rest->remove_prefix(2);
  }
  const size_t end = rest->find('}');
  if (rest->compare(0, 2, "%{") == 0 && end != rest->npos) {
    *out += Printable(Find(rest->substr(2, end - 2))->value(facts));
    return rest->remove_prefix(end + 1);
  }
  out->push_back(rest->front());
  rest->remove_prefix(1);
}

}  // namespace

absl::Status CheckWriteOut(const std::string& format) {
  for (size_t at = format.find('%'); at != format.npos;
       at = format.find('%', at)) {
    const size_t end = format.find('}', at);
    if (format.compare(at, 2, "%{") != 0 || end == format.npos) {
      at += format.compare(at, 2, "%%") == 0 ? 2 : 1;
      continue;
    }
    const std::string name = format.substr(at + 2, end - at - 2);
    if (Find(name) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--write-out: unknown variable ", Printable(name),
          DidYouMean(name, Names()), "\nvariables: ", WriteOutVariables()));
    }
    at = end + 1;
  }
  return absl::OkStatus();
}

std::string FormatWriteOut(const std::string& format,
                           const AnswerFacts& facts) {
  std::string text;
  for (std::string_view rest = format; !rest.empty();) {
    AppendNext(&rest, facts, &text);
  }
  return text;
}

std::string WriteOutVariables() { return absl::StrJoin(Names(), ", "); }

}  // namespace hotline::client
