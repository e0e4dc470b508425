#include "client/cli/usage.h"

#include <algorithm>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"

namespace hotline::client {
namespace {

// The optimal string alignment distance.
size_t Edits(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> edits(a.size() + 1,
                                         std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) edits[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) edits[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      edits[i][j] =
          std::min({edits[i - 1][j] + 1, edits[i][j - 1] + 1,
                    edits[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        edits[i][j] = std::min(edits[i][j], edits[i - 2][j - 2] + 1);
      }
    }
  }
  return edits[a.size()][b.size()];
}

std::string LongName(const CLI::Option& option) {
  return option.get_lnames().empty() ? "" : "--" + option.get_lnames().front();
}

// The long options that `command` takes: its own, and the global ones.
std::vector<const CLI::Option*> LongOptions(const CLI::App& app,
                                            const CLI::App& command) {
  const auto is_long = [](const CLI::Option* option) {
    return !option->get_lnames().empty();
  };
  std::vector<const CLI::Option*> options = command.get_options(is_long);
  if (&command == &app) return options;
  for (const CLI::Option* option : app.get_options(is_long)) {
    options.push_back(option);
  }
  return options;
}

// "unknown option --recept; did you mean --receipt?", with its description.
std::string UnknownOption(const CLI::App& app, const CLI::App& command,
                          const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  std::string text = absl::StrCat("unknown option ", Printable(name));
  std::vector<std::string> names;
  const auto options = LongOptions(app, command);
  for (const CLI::Option* option : options) names.push_back(LongName(*option));
  const std::string nearest = Nearest(name, names);
  if (nearest.empty()) return text;
  absl::StrAppend(&text, "; did you mean ", nearest, "?");
  for (const CLI::Option* option : options) {
    if (LongName(*option) != nearest) continue;
    absl::StrAppend(&text, "\n  ", option->get_name(false, true), "  ",
                    option->get_description());
    break;
  }
  return text;
}

// "usage: hotline get [OPTIONS] URL", and where the rest is.
std::string UsageLines(const CLI::App& app, const CLI::App& command) {
  if (&command == &app) {
    return absl::StrCat("commands: ", absl::StrJoin(CommandNames(app), " "),
                        "\n`hotline help COMMAND` explains one of them, "
                        "`hotline help` the global options");
  }
  std::string text =
      absl::StrCat("usage: hotline ", command.get_name(), " [OPTIONS]");
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional()) continue;
    std::string name = option->get_type_name();
    // A choice: ":{a,b}" or "NAME:{a,b}".
    if (const size_t open = name.find('{'); open != name.npos) {
      name = name.substr(open);
    }
    if (option->get_items_expected_max() > 1) name += "...";
    absl::StrAppend(
        &text, " ",
        option->get_required() ? name : absl::StrCat("[", name, "]"));
  }
  return absl::StrCat(text, "\n`hotline help ", command.get_name(),
                      "` explains all its options, with examples");
}

std::string Fault(const CLI::App& app, const CLI::App& command,
                  const std::string& error) {
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  for (const std::string& word : extras) {
    if (word.size() > 1 && word[0] == '-' && word != "--") {
      return UnknownOption(app, command, word);
    }
  }
  for (const std::string& word : extras) {
    if (word == "--") continue;
    if (&command != &app) {
      return absl::StrCat("unexpected argument ", Printable(word));
    }
    return absl::StrCat("unknown command ", Printable(word),
                        DidYouMean(word, CommandNames(app)));
  }
  return Printable(error);
}

}  // namespace

std::string Nearest(std::string_view word,
                    const std::vector<std::string>& candidates) {
  const std::string* only = nullptr;
  int begin_so = 0;
  for (const std::string& candidate : candidates) {
    if (word.size() < 2 || candidate.compare(0, word.size(), word) != 0) {
      continue;
    }
    only = &candidate;
    ++begin_so;
  }
  if (begin_so == 1) return *only;
  std::string best;
  size_t fewest = std::max<size_t>(1, word.size() / 3);
  for (const std::string& candidate : candidates) {
    const size_t edits = Edits(word, candidate);
    if (edits > fewest || (edits == fewest && !best.empty())) continue;
    best = candidate;
    fewest = edits;
  }
  return best;
}

std::string DidYouMean(std::string_view word,
                       const std::vector<std::string>& candidates) {
  const std::string nearest = Nearest(word, candidates);
  return nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?");
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  return names;
}

std::string ExplainUsage(const CLI::App& app, const std::string& error) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const CLI::App& command = parsed.empty() ? app : *parsed.front();
  return absl::StrCat(
      &command == &app ? "" : absl::StrCat(command.get_name(), ": "),
      Fault(app, command, error), "\n", UsageLines(app, command));
}

}  // namespace hotline::client
