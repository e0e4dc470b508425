// Completion scripts.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/documentation.h"

namespace hotline::client {
namespace {

// Escapes text for single quotes in the scripts of all three shells.
std::string Quote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// fish escapes inside single quotes differently.
std::string QuoteFish(const std::string& text) {
  return absl::StrCat(
      "'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

std::vector<std::string> Names(const OptionDoc& option) {
  std::vector<std::string> names;
  if (!option.short_name.empty()) names.push_back(option.short_name);
  if (!option.long_name.empty()) names.push_back(option.long_name);
  return names;
}

std::vector<std::string> Flags(const CommandDoc& doc) {
  std::vector<std::string> names;
  for (const OptionDoc& option : doc.options) {
    for (std::string& name : Names(option)) names.push_back(std::move(name));
  }
  return names;
}

std::string CommandNames(const CommandDoc& doc) {
  return absl::StrJoin(doc.commands, " ",
                       [](std::string* out, const CommandDoc& command) {
                         out->append(command.name);
                       });
}

// The completions of options' values: cases of a bash statement over
// "command:option". `command` may be "*".
std::string BashValues(const CommandDoc& doc, const std::string& command) {
  std::string text;
  for (const OptionDoc& option : doc.options) {
    if (!option.takes_value || !option.positional.empty()) continue;
    std::string action;
    if (option.value == "FILE") action = "compgen -f";
    if (!option.choices.empty()) {
      action =
          absl::StrCat("compgen -W '", absl::StrJoin(option.choices, " "), "'");
    }
    // Any text: there is nothing to complete.
    if (action.empty()) action = ":";
    absl::StrAppend(
        &text, "        ", command, ":",
        absl::StrJoin(Names(option), absl::StrCat("|", command, ":")),
        ") mapfile -t COMPREPLY < <(", action,
        action == ":" ? "" : " -- \"$word\"", "); return ;;\n");
  }
  return text;
}

std::string BashWords(const CommandDoc& command) {
  std::vector<std::string> words = Flags(command);
  for (const OptionDoc& option : command.options) {
    if (option.positional.empty()) continue;
    words.insert(words.end(), option.choices.begin(), option.choices.end());
  }
  return absl::StrCat("        ", command.name, ") words+=\" ",
                      absl::StrJoin(words, " "), "\" ;;\n");
}

// "-X[description]:VALUE:(a b)" for _arguments.
std::string ZshSpec(const OptionDoc& option, const std::string& name) {
  const std::string description = absl::StrReplaceAll(
      option.description, {{"[", "\\["}, {"]", "\\]"}, {":", "\\:"}});
  std::string action;
  if (option.takes_value) {
    const std::string label = option.value.empty() ? "value" : option.value;
    action = absl::StrCat(
        ":", label, ":",
        !option.choices.empty()
            ? absl::StrCat("(", absl::StrJoin(option.choices, " "), ")")
        : option.value == "FILE" ? "_files"
                                 : " ");
  }
  // Without a number: the next one.
  if (!option.positional.empty())
    return option.repeated ? "*" + action : action;
  return absl::StrCat("*", name, "[", description, "]", action);
}

std::string ZshSpecs(const CommandDoc& doc) {
  std::string text;
  for (const OptionDoc& option : doc.options) {
    if (!option.positional.empty()) {
      absl::StrAppend(&text, " \\\n        ", Quote(ZshSpec(option, "")));
      continue;
    }
    for (const std::string& name : {option.short_name, option.long_name}) {
      if (name.empty()) continue;
      absl::StrAppend(&text, " \\\n        ", Quote(ZshSpec(option, name)));
    }
  }
  return text;
}

std::string FishOption(const OptionDoc& option, const std::string& condition) {
  if (!option.positional.empty()) {
    if (option.choices.empty()) return "";
    return absl::StrCat("complete -c hotline -n ", QuoteFish(condition), " -a ",
                        QuoteFish(absl::StrJoin(option.choices, " ")), "\n");
  }
  std::string text =
      absl::StrCat("complete -c hotline -n ", QuoteFish(condition));
  if (!option.short_name.empty()) {
    absl::StrAppend(&text, " -s ", option.short_name.substr(1));
  }
  if (!option.long_name.empty()) {
    absl::StrAppend(&text, " -l ", option.long_name.substr(2));
  }
  if (option.takes_value) {
    text += option.value == "FILE" ? " -r -F" : " -x";
    if (!option.choices.empty()) {
      absl::StrAppend(&text, " -a ",
                      QuoteFish(absl::StrJoin(option.choices, " ")));
    }
  }
  return absl::StrCat(text, " -d ", QuoteFish(option.description), "\n");
}

}  // namespace

std::string RenderBash(const CommandDoc& doc) {
  std::string values;
  std::string words;
  for (const CommandDoc& command : doc.commands) {
    values += BashValues(command, command.name);
    words += BashWords(command);
  }
  return absl::StrCat(
      "# bash completion for hotline\n"
      "_hotline() {\n"
      "    local word=\"${COMP_WORDS[COMP_CWORD]}\" command=\"\" words i\n"
      "    local before=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
      "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "        case \" ",
      CommandNames(doc),
      " \" in *\" ${COMP_WORDS[i]} \"*)\n"
      "            command=\"${COMP_WORDS[i]}\"; break ;;\n"
      "        esac\n"
      "    done\n"
      "    case \"$command:$before\" in\n",
      values, BashValues(doc, "*"),
      "    esac\n"
      "    words=\"",
      absl::StrJoin(Flags(doc), " "),
      "\"\n"
      "    case \"$command\" in\n",
      words, "        *) words+=\" ", CommandNames(doc),
      "\" ;;\n"
      "    esac\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
      "}\n"
      "complete -F _hotline hotline\n");
}

std::string RenderZsh(const CommandDoc& doc) {
  std::string commands;
  std::string cases;
  for (const CommandDoc& command : doc.commands) {
    absl::StrAppend(&commands, "        ",
                    Quote(absl::StrCat(command.name, ":", command.description)),
                    "\n");
    absl::StrAppend(&cases, "    ", command.name, ") _arguments -s",
                    ZshSpecs(command), " ;;\n");
  }
  return absl::StrCat(
      "#compdef hotline\n"
      "_hotline() {\n"
      "    local -a commands\n"
      "    local state line\n"
      "    commands=(\n",
      commands,
      "    )\n"
      "    _arguments -C -s",
      ZshSpecs(doc),
      " \\\n        '1:command:->command' '*::argument:->argument'\n"
      "    case $state in\n"
      "    command) _describe command commands; return ;;\n"
      "    esac\n"
      "    case $line[1] in\n",
      cases,
      "    esac\n"
      "}\n"
      "if [ \"$funcstack[1]\" = _hotline ]; then\n"
      "    _hotline \"$@\"\n"
      "else\n"
      "    compdef _hotline hotline\n"
      "fi\n");
}

std::string RenderFish(const CommandDoc& doc) {
  const std::string names = CommandNames(doc);
  const std::string none =
      absl::StrCat("not __fish_seen_subcommand_from ", names);
  std::string text = "# fish completion for hotline\ncomplete -c hotline -f\n";
  for (const CommandDoc& command : doc.commands) {
    absl::StrAppend(&text, "complete -c hotline -n ", QuoteFish(none), " -a ",
                    command.name, " -d ", QuoteFish(command.description), "\n");
  }

  // The options of every command are allowed anywhere.
  for (const OptionDoc& option : doc.options) {
    text += FishOption(option, "true");
  }
  for (const CommandDoc& command : doc.commands) {
    for (const OptionDoc& option : command.options) {
      if (option.long_name == "--help") continue;
      text += FishOption(
          option, absl::StrCat("__fish_seen_subcommand_from ", command.name));
    }
  }
  return text;
}

}  // namespace hotline::client
