// `hotline exec`.
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/command_line.h"

namespace hotline::client {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

TEST_F(CommandLineTest, ExecHoldsALeaseWhileTheCommandRuns) {
  const std::string file = testing::TempDir() + "/exec_out";
  const Result result = Hotline(
      {"exec", "--purpose", "test", "https://a.test", "--", "sh", "-c",
       "echo \"$HOTLINE_LEASE $HOTLINE_URL $HOTLINE_ADDRESS $0 $1\" > " + file +
           "; exit 3",
       "-x", "stats"});
  EXPECT_EQ(result.code, 3) << result.err;
  std::ifstream written(file);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(written), {}),
            "abc123 https://a.test " + broker_.address() + " -x stats\n");
  ASSERT_EQ(broker_.release.requests().size(), 1u);
  EXPECT_EQ(broker_.release.requests()[0].lease_id(), "abc123");
  EXPECT_EQ(broker_.release.requests()[0].outcome(), v1::OUTCOME_OK);
  EXPECT_EQ(broker_.acquire.requests()[0].lease_ttl().seconds(), 30);
  EXPECT_EQ(broker_.acquire.requests()[0].holder().purpose(), "test");
}

TEST_F(CommandLineTest, ExecRenewsTheLeaseOfALongCommand) {
  const std::string file = testing::TempDir() + "/exec_renewed";
  std::remove(file.c_str());
  broker_.renew.Answer([&file](const auto&, auto*, int call) {
    if (call == 2) std::ofstream(file) << "renewed";
    return grpc::Status::OK;
  });
  const Result result =
      Hotline({"exec", "--ttl", "300ms", "https://a.test", "--", "sh", "-c",
               "until [ -e " + file + " ]; do :; done"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_GE(broker_.renew.requests().size(), 2u);
  EXPECT_EQ(broker_.release.requests().size(), 1u);
}

TEST_F(CommandLineTest, ExecSaysWhetherTheCommandRan) {
  EXPECT_EQ(
      Hotline({"exec", "https://a.test", "--", "sh", "-c", "kill -TERM $$"})
          .code,
      128 + SIGTERM);
  const Result none =
      Hotline({"exec", "https://a.test", "--", "no-such-command"});
  EXPECT_EQ(none.code, 127);
  EXPECT_THAT(none.err, HasSubstr("cannot run no-such-command"));
  EXPECT_EQ(Hotline({"exec", "https://a.test", "--", "/"}).code, 126);
  EXPECT_EQ(broker_.release.requests().size(), 3u);
  broker_.acquire.Answer([](const auto&, auto*, int) {
    return BrokerError(StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "full");
  });
  const Result refused = Hotline({"exec", "https://a.test", "--", "true"});
  EXPECT_EQ(refused.code, 125);
  EXPECT_THAT(refused.err, HasSubstr("QUEUE_FULL: full"));
  EXPECT_EQ(Hotline({"exec", "https://a.test"}).code, kExitUsage);
}

}  // namespace
}  // namespace hotline::client
