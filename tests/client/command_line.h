// Runs the command line in this process against a fake broker.
#ifndef HOTLINE_TESTS_CLIENT_COMMAND_LINE_H_
#define HOTLINE_TESTS_CLIENT_COMMAND_LINE_H_

#include <sstream>
#include <string>
#include <vector>

#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "gtest/gtest.h"
#include "tests/client/fake_broker.h"

namespace hotline::client {

struct Result {
  int code;
  std::string out;
  std::string err;
};

class CommandLineTest : public testing::Test {
 protected:
  CommandLineTest() {
    broker_.acquire.Answer([](const auto&, auto* response, int) {
      response->mutable_lease()->set_lease_id("abc123");
      return grpc::Status::OK;
    });
  }

  // Runs `hotline --address <the fake's> WORDS…`.
  Result Hotline(std::vector<std::string> words, const std::string& in = "") {
    words.insert(words.begin(), {"hotline", "--address", broker_.address()});
    return Raw(words, in);
  }

  static Result Raw(const std::vector<std::string>& words,
                    const std::string& in = "", bool color = false,
                    bool terminal = false) {
    std::vector<const char*> argv;
    for (const std::string& word : words) argv.push_back(word.c_str());
    std::istringstream input(in);
    std::ostringstream out, err;
    const int code = RunCommandLine(static_cast<int>(argv.size()), argv.data(),
                                    {.in = input,
                                     .out = out,
                                     .err = err,
                                     .terminal_out = terminal,
                                     .color_out = color,
                                     .color_err = color});
    return {code, out.str(), err.str()};
  }

  void UpstreamAnswers(int status, const std::string& body) {
    broker_.execute.Answer([=](const auto&, auto* response, int) {
      response->set_status(status);
      response->set_body(body);
      v1::Header* header = response->add_headers();
      header->set_name("x-a");
      header->set_value("b");
      response->mutable_receipt()->set_attempts(1);
      response->mutable_receipt()->mutable_connection()->set_connection_id(9);
      return grpc::Status::OK;
    });
  }

  v1::ExecuteRequest LastExecute() const {
    return broker_.execute.requests().back();
  }

  FakeBroker broker_;
};

}  // namespace hotline::client

#endif  // HOTLINE_TESTS_CLIENT_COMMAND_LINE_H_
