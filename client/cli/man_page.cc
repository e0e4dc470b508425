// The man page, in troff.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/version.h"
#include "client/cli/documentation.h"

namespace hotline::client {
namespace {

// Escapes text for troff: a line must not start with a request, and a minus
// must not become a hyphen.
std::string Escape(const std::string& text) {
  std::string escaped = absl::StrReplaceAll(
      text,
      {{"\\", "\\e"}, {"-", "\\-"}, {"\n.", "\n\\&."}, {"\n'", "\n\\&'"}});
  if (!escaped.empty() && (escaped[0] == '.' || escaped[0] == '\'')) {
    escaped.insert(0, "\\&");
  }
  return escaped;
}

std::string Value(const OptionDoc& option) {
  if (!option.takes_value) return "";
  if (option.choices.empty()) {
    return absl::StrCat("\\fI", Escape(option.value), "\\fR");
  }
  // "\\:": a long list may be broken here.
  return absl::StrJoin(option.choices,
                       "|\\:", [](std::string* out, const std::string& choice) {
                         absl::StrAppend(out, "\\fB", Escape(choice), "\\fR");
                       });
}

std::string Names(const OptionDoc& option) {
  if (!option.positional.empty()) return Value(option);
  std::vector<std::string> names;
  for (const std::string& name : {option.short_name, option.long_name}) {
    if (!name.empty()) {
      names.push_back(absl::StrCat("\\fB", Escape(name), "\\fR"));
    }
  }
  const std::string value = Value(option);
  return absl::StrCat(absl::StrJoin(names, ", "), value.empty() ? "" : " ",
                      value);
}

std::string Options(const CommandDoc& doc) {
  std::string text;
  for (const OptionDoc& option : doc.options) {
    absl::StrAppend(&text, ".TP\n", Names(option), "\n",
                    Escape(option.description), ".");
    if (!option.default_value.empty()) {
      absl::StrAppend(&text, " Default: ", Escape(option.default_value), ".");
    }
    text += '\n';
  }
  return text;
}

std::string Synopsis(const CommandDoc& command) {
  std::string text = absl::StrCat("\\fBhotline ", command.name, "\\fR");
  if (!command.options.empty()) text += " [\\fIoptions\\fR]";
  for (const OptionDoc& option : command.options) {
    if (option.positional.empty()) continue;
    absl::StrAppend(&text, " ", Value(option), option.repeated ? "..." : "");
  }
  return text;
}

// Preformatted lines.
std::string Verbatim(const std::string& lines) {
  return absl::StrCat(".nf\n", Escape(lines), ".fi\n");
}

std::string Command(const CommandDoc& command) {
  return absl::StrCat(".SS ", Synopsis(command), "\n",
                      Escape(command.description), ".\n", Options(command),
                      ".PP\n", Verbatim(command.footer));
}

}  // namespace

std::string RenderManPage(const CommandDoc& doc) {
  std::string text = absl::StrCat(
      ".\\\" Printed by `hotline man`.\n.TH HOTLINE 1 \"\" \"hotline ",
      kVersion, "\" \"Hotline\"\n.ad l\n.SH NAME\n",
      "hotline \\- hot connections over gRPC\n.SH SYNOPSIS\n",
      "\\fBhotline\\fR [\\fIoptions\\fR] \\fIcommand\\fR ...\n",
      ".SH DESCRIPTION\n", Escape(doc.description), "\n.SH OPTIONS\n",
      Options(doc), ".SH COMMANDS\n");
  for (const CommandDoc& command : doc.commands) text += Command(command);
  absl::StrAppend(&text, ".SH NOTES\n", Verbatim(doc.footer + "\n"));
  return text;
}

}  // namespace hotline::client
