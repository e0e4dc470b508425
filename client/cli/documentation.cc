// Describes the CLI11 application; `hotline help`, `completion` and `man`.
#include "client/cli/documentation.h"

#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/usage.h"

namespace hotline::client {
namespace {

// CLI11 writes the choices into the type's name: "NAME:{a,b}".
void SplitType(const std::string& type, OptionDoc* doc) {
  const size_t open = type.find('{');
  const size_t close = type.find('}');
  if (open != std::string::npos && close != std::string::npos) {
    doc->choices = absl::StrSplit(type.substr(open + 1, close - open - 1), ',');
    return;
  }
  doc->value = type.substr(0, type.find(':'));
  // A range check shows as "N:INT in [1 - 10]".
}

OptionDoc DescribeOption(const CLI::Option& option) {
  OptionDoc doc;
  if (!option.get_snames().empty()) {
    doc.short_name = "-" + option.get_snames().front();
  }
  if (!option.get_lnames().empty()) {
    doc.long_name = "--" + option.get_lnames().front();
  }
  if (option.get_positional()) doc.positional = option.get_name(true, false);
  doc.takes_value = option.get_items_expected_max() > 0;
  doc.repeated = option.get_positional() && option.get_items_expected_max() > 1;
  if (doc.takes_value) SplitType(option.get_type_name(), &doc);
  doc.description = option.get_description();
  doc.default_value = option.get_default_str();
  doc.required = option.get_required();
  return doc;
}

int RunHelp(const CLI::App& app, const std::string& name, const Run& run) {
  const auto commands = app.get_subcommands(
      [&](const CLI::App* command) { return command->get_name() == name; });
  if (name.empty()) {
    // The application's own help would be that of the parsed `help`.
    run.io.out << app.get_formatter()->make_help(&app, app.get_name(),
                                                 CLI::AppFormatMode::Normal);
  } else if (commands.empty()) {
    return run.FailUsage(absl::StrCat("help: unknown command ", Printable(name),
                                      DidYouMean(name, CommandNames(app))));
  } else {
    run.io.out << commands.front()->help(app.get_name());
  }
  return kExitOk;
}

int RunCompletion(const CLI::App& app, const std::string& shell,
                  const Run& run) {
  CommandDoc doc = Describe(app);
  for (CommandDoc& command : doc.commands) {
    for (OptionDoc& option : command.options) {
      if (option.value == "COMMAND") option.choices = CommandNames(app);
    }
  }
  run.io.out << (shell == "bash"  ? RenderBash(doc)
                 : shell == "zsh" ? RenderZsh(doc)
                                  : RenderFish(doc));
  return kExitOk;
}

void AddHelp(CLI::App& app, Run& run) {
  auto name = std::make_shared<std::string>();
  CLI::App* help = app.add_subcommand("help", "Show the help of a command");
  help->add_option("command", *name, "The command (default: all of them)")
      ->type_name("COMMAND");
  help->footer(
      Examples("  hotline help get\n"
               "  hotline get --help\n"));
  help->final_callback([name, &app, &run] {
    run.action = [name, &app, &run] { return RunHelp(app, *name, run); };
  });
}

}  // namespace

CommandDoc Describe(const CLI::App& app) {
  CommandDoc doc{.name = app.get_name(),
                 .description = app.get_description(),
                 .footer = app.get_footer(),
                 .options = {},
                 .commands = {}};
  for (const CLI::Option* option : app.get_options()) {
    doc.options.push_back(DescribeOption(*option));
  }
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    // A group of "" hides a command from --help, so it is skipped here, too.
    if (!command->get_group().empty())
      doc.commands.push_back(Describe(*command));
  }
  return doc;
}

void AddDocumentation(CLI::App& app, Run& run) {
  AddHelp(app, run);
  auto shell = std::make_shared<std::string>();
  CLI::App* completion =
      app.add_subcommand("completion", "Print a completion script for a shell");
  completion->add_option("shell", *shell, "The shell")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->footer(Examples(
      "  source <(hotline completion bash)\n"
      "  hotline completion zsh > \"${fpath[1]}/_hotline\"\n"
      "  hotline completion fish > ~/.config/fish/completions/hotline.fish\n"));
  completion->final_callback([shell, &app, &run] {
    run.action = [shell, &app, &run] {
      return RunCompletion(app, *shell, run);
    };
  });
  CLI::App* man = app.add_subcommand("man", "Print the man page");
  man->footer(Examples("  hotline man | man -l -\n"));
  man->final_callback([&app, &run] {
    run.action = [&app, &run] {
      run.io.out << RenderManPage(Describe(app));
      return static_cast<int>(kExitOk);
    };
  });
}

}  // namespace hotline::client
