// What a command talks to, so that tests can listen.
#ifndef HOTLINE_CLIENT_CLI_IO_H_
#define HOTLINE_CLIENT_CLI_IO_H_

#include <istream>
#include <ostream>

namespace hotline::client {

struct Io {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  // Colour where the stream is a terminal and NO_COLOR is not set.
  bool color_out = false;
  bool color_err = false;
  // What a tunnel joins: standard input and output.
  int in_fd = 0;
  int out_fd = 1;
  // Standard error is a terminal: a line of progress may come and go on it.
  bool live = false;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_IO_H_
