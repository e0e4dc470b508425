// The streams of a command, which tests replace.
#ifndef HOTLINE_CLIENT_CLI_IO_H_
#define HOTLINE_CLIENT_CLI_IO_H_

#include <istream>
#include <ostream>
#include <string_view>

namespace hotline::client {

struct Io {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  // Their descriptors, for commands that forward bytes; -1: `in` has none.
  int in_fd = -1;
  int out_fd = 1;
  bool terminal_out = false;
  bool terminal_err = false;
  // Colour if the stream is a terminal and NO_COLOR is not set.
  bool color_out = false;
  bool color_err = false;
  // What --version shows after the version; begins with a line end.
  std::string_view build = {};
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_IO_H_
