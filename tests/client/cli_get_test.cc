// `hotline get`: what it shows beside the answer, several URLs, and policies.
#include <fstream>
#include <iterator>
#include <string>

#include "client/cli/write_out.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/command_line.h"

namespace hotline::client {
namespace {

using grpc::Status;
using grpc::StatusCode;
using testing::HasSubstr;

// Answers "answer to URL" with the status that the URL ends with.
void EchoUrls(FakeBroker* broker) {
  broker->execute.Answer([](const auto& request, auto* response, int) {
    const std::string& url = request.url();
    response->set_status(std::stoi(url.substr(url.size() - 3)));
    response->set_body("answer to " + url + "\n");
    response->mutable_receipt()->set_attempts(1);
    return Status::OK;
  });
}

TEST_F(CommandLineTest, VerboseShowsRequestHeadAndReceiptEscaped) {
  broker_.execute.Answer([](const auto&, auto* response, int) {
    response->set_status(200);
    v1::Header* header = response->add_headers();
    header->set_name("x-a");
    header->set_value("\x1b[2J");
    response->set_body("body");
    response->mutable_receipt()->set_attempts(1);
    return Status::OK;
  });
  const Result result =
      Hotline({"get", "-v", "-H", "X-Sent: \x1b]0;", "https://a.test/x"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.out, "body");
  EXPECT_THAT(result.err,
              HasSubstr("> GET https://a.test/x\n> X-Sent: \\u001b]0;\n> \n"
                        "< 200\n< x-a: \\u001b[2J\n< \n"
                        "* status     200, 4 bytes\n* connection #0"));
  EXPECT_THAT(result.err, HasSubstr("\n* attempts   1\n"));
}

TEST_F(CommandLineTest, WriteOutPrintsVariablesOfEachAnswer) {
  EchoUrls(&broker_);
  const Result result = Hotline({"get", "-o", "/dev/null", "-w",
                                 "%{status} %{method} %{size}\\t%%\\n",
                                 "https://a.test/200", "https://a.test/404"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.out, "200 GET 29\t%\n404 GET 29\t%\n");
  const Result bad = Hotline({"get", "-w", "%{statsu}", "https://a.test/200"});
  EXPECT_EQ(bad.code, kExitUsage);
  EXPECT_THAT(bad.err, HasSubstr("unknown variable statsu; did you mean "
                                 "status?"));
  EXPECT_THAT(bad.err, HasSubstr("variables: url, method, status"));
}

TEST(FormatWriteOut, EscapesValuesAndKeepsOtherText) {
  v1::ExecuteRequest request;
  request.set_url("https://a.test/\x1b");
  v1::Receipt receipt;
  receipt.mutable_connection()->set_reused(true);
  receipt.mutable_timings()->mutable_total()->set_nanos(1'500'000);
  const std::string format = "%{url} %{reused} %{total} %{wait} 5% \\x %{";
  ASSERT_TRUE(CheckWriteOut(format).ok());
  EXPECT_EQ(FormatWriteOut(format, {request, 200, 0, receipt}),
            "https://a.test/\\u001b true 0.001500 0.000000 5% \\x %{");
}

TEST_F(CommandLineTest, SeveralUrlsAreRequestedInTurn) {
  EchoUrls(&broker_);
  const Result result = Hotline(
      {"get", "-d", "@-", "https://a.test/1/200", "https://a.test/2/200"},
      "posted");
  EXPECT_EQ(result.out,
            "answer to https://a.test/1/200\nanswer to https://a.test/2/200\n");
  for (const v1::ExecuteRequest& request : broker_.execute.requests()) {
    EXPECT_EQ(request.body(), "posted");
  }
  const std::string file = testing::TempDir() + "/several";
  Hotline({"get", "-o", file, "https://a.test/1/200", "https://a.test/2/200"});
  std::ifstream written(file);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(written), {}),
            result.out);
  EXPECT_EQ(Hotline({"get", "-T", "-", "https://a.test/1/200",
                     "https://a.test/2/200"})
                .code,
            kExitUsage);
}

TEST_F(CommandLineTest, TheFirstFailureOfSeveralIsTheExitCode) {
  EchoUrls(&broker_);
  const Result result =
      Hotline({"get", "-f", "https://a.test/1/200", "https://a.test/2/500",
               "https://a.test/3/200"});
  EXPECT_EQ(result.code, kExitHttpError);
  EXPECT_THAT(result.out, HasSubstr("/3/200")) << "the others are requested";
}

TEST_F(CommandLineTest, GetUsesExecuteWhereThePolicyAllowsNothingElse) {
  UpstreamAnswers(200, "hello");
  broker_.refuse_streams = BrokerError(StatusCode::PERMISSION_DENIED,
                                       "NOT_AUTHORIZED", "not allowed");
  const Result result = Hotline({"get", "-d", "small", "https://a.test/"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.out, "hello");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(LastExecute().body(), "small");
  EXPECT_EQ(broker_.execute.requests().size(), 1u);
  // What does not fit Execute's promise of one message is not tried.
  EXPECT_EQ(Hotline({"get", "-T", "-", "https://a.test/"}, "x").code,
            kExitRefused);
}

}  // namespace
}  // namespace hotline::client
