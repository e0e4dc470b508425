#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>

#include "base/commit.h"
#include "base/library_log/library_log.h"
#include "base/log.h"
#include "client/cli/command.h"
#include "google/protobuf/stubs/common.h"
#include "grpcpp/grpcpp.h"

int main(int argc, char** argv) {
  // A closed pipe shows as a failed write, not as a signal.
  std::signal(SIGPIPE, SIG_IGN);
  hotline::FlushLogOnCrash();
  hotline::TakeLibraryLogs();
  const char* no_color = std::getenv("NO_COLOR");
  const bool color = no_color == nullptr || *no_color == '\0';
  const std::string build =
      std::string("\ncommit ") + hotline::kCommit + "\ngrpc " +
      grpc::Version() + "\nprotobuf " +
      google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION);
  return hotline::client::RunCommandLine(
      argc, argv,
      {.in = std::cin,
       .out = std::cout,
       .err = std::cerr,
       .in_fd = STDIN_FILENO,
       .terminal_out = isatty(STDOUT_FILENO) != 0,
       .terminal_err = isatty(STDERR_FILENO) != 0,
       .color_out = color && isatty(STDOUT_FILENO),
       .color_err = color && isatty(STDERR_FILENO),
       .build = build});
}
