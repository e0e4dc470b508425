// A description of the command line as data. Shell completion and the man page
// are made from it, so they agree with --help.
#ifndef HOTLINE_CLIENT_CLI_DOCUMENTATION_H_
#define HOTLINE_CLIENT_CLI_DOCUMENTATION_H_

#include <string>
#include <vector>

#include "CLI/App.hpp"

namespace hotline::client {

struct OptionDoc {
  // "-X" and "--request"; one may be empty, both are for a positional.
  std::string short_name;
  std::string long_name;
  // The name of a positional.
  std::string positional;
  // "URL", "TIME"; empty for a flag and for an option with choices.
  std::string value;
  std::vector<std::string> choices;
  std::string description;
  std::string default_value;
  bool takes_value = false;
  bool repeated = false;  // A positional that may be given several times.
  bool required = false;
};

struct CommandDoc {
  std::string name;
  std::string description;
  std::string footer;
  std::vector<OptionDoc> options;
  // One level deep; empty for a subcommand.
  std::vector<CommandDoc> commands;
};

CommandDoc Describe(const CLI::App& app);

std::string RenderManPage(const CommandDoc& doc);
std::string RenderBash(const CommandDoc& doc);
std::string RenderZsh(const CommandDoc& doc);
std::string RenderFish(const CommandDoc& doc);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_DOCUMENTATION_H_
