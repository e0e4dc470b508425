// Explains wrong usage: names the mistyped word, suggests the nearest one, and
// shows the usage of the command it belongs to.
#ifndef HOTLINE_CLIENT_CLI_USAGE_H_
#define HOTLINE_CLIENT_CLI_USAGE_H_

#include <string>
#include <string_view>
#include <vector>

#include "CLI/App.hpp"

namespace hotline::client {

// The candidate that `word` was probably meant to be: the only one that begins
// with it, or else the one with the fewest edits (a character inserted, removed
// or replaced, or two neighbours swapped), at most a third of the word. Empty:
// none.
std::string Nearest(std::string_view word,
                    const std::vector<std::string>& candidates);

// "; did you mean X?", or nothing.
std::string DidYouMean(std::string_view word,
                       const std::vector<std::string>& candidates);

// The names of the commands that --help lists.
std::vector<std::string> CommandNames(const CLI::App& app);

// Several lines about why `app` could not parse its arguments. `error` is
// CLI11's message, used where no word is unknown. Words are escaped.
std::string ExplainUsage(const CLI::App& app, const std::string& error);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_USAGE_H_
