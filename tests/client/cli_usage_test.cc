// Wrong usage, help, and the fields that an error names.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/command_line.h"

namespace hotline::client {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

TEST_F(CommandLineTest, AnErrorNamesTheFieldAndTheHeaderAtFault) {
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field("headers[1].value");
  broker_.execute.Answer([&bad](const auto&, auto*, int) {
    return BrokerError(StatusCode::INVALID_ARGUMENT, "BAD_HEADER",
                       "contains a control character", {&bad});
  });
  const Result result =
      Hotline({"get", "-H", "A: b", "-H", "X-Id: \x01", "https://a.test/"});
  EXPECT_EQ(result.code, kExitUsage);
  EXPECT_EQ(result.err,
            "hotline: BAD_HEADER: headers[1].value (X-Id): contains a control "
            "character\n");
  bad.mutable_field_violations(0)->set_field("lease_ttl");
  broker_.acquire.Answer([&bad](const auto&, auto*, int) {
    return BrokerError(StatusCode::INVALID_ARGUMENT, "BAD_OPTION",
                       "must be longer than zero", {&bad});
  });
  EXPECT_EQ(Hotline({"acquire", "--ttl", "0", "https://a.test"}).err,
            "hotline: BAD_OPTION: lease_ttl: must be longer than zero\n");
}

TEST_F(CommandLineTest, AMistypedCommandIsNamedWithTheNearestOne) {
  EXPECT_THAT(Raw({"hotline", "gte", "https://a.test/"}).err,
              HasSubstr("unknown command gte; did you mean get?\n"));
  EXPECT_THAT(Raw({"hotline", "rel", "x"}).err,
              HasSubstr("unknown command rel; did you mean release?\n"));
  const Result far = Raw({"hotline", "make-coffee"});
  EXPECT_EQ(far.code, kExitUsage);
  EXPECT_THAT(far.err, HasSubstr("unknown command make-coffee\n"));
  EXPECT_THAT(far.err, HasSubstr("commands: get acquire release"));
  EXPECT_THAT(Raw({"hotline", "help", "stat"}).err,
              HasSubstr("help: unknown command stat; did you mean stats?"));
}

TEST_F(CommandLineTest, AMistypedOptionIsNamedWithTheNearestOfItsCommand) {
  const Result result = Raw({"hotline", "get", "--recept", "https://a.test/"});
  EXPECT_EQ(result.code, kExitUsage);
  EXPECT_THAT(result.err, HasSubstr("hotline: get: unknown option --recept; "
                                    "did you mean --receipt?\n  -r,--receipt"));
  EXPECT_THAT(result.err, HasSubstr("usage: hotline get [OPTIONS] URL"));
  EXPECT_THAT(result.err, HasSubstr("`hotline help get` explains"));
  // The global ones, with a value, and before a missing argument.
  EXPECT_THAT(Raw({"hotline", "get", "--adress=x"}).err,
              HasSubstr("unknown option --adress; did you mean --address?"));
  EXPECT_THAT(Raw({"hotline", "release", "--max-wait", "1", "x"}).err,
              HasSubstr("release: unknown option --max-wait"));
  EXPECT_THAT(Raw({"hotline", "release", "x", "y"}).err,
              HasSubstr("release: unexpected argument y\nusage: hotline "
                        "release [OPTIONS] [LEASE_ID]"));
  EXPECT_THAT(Raw({"hotline", "pause"}).err,
              HasSubstr("usage: hotline pause [OPTIONS] TARGET"));
}

TEST_F(CommandLineTest, HelpShowsTheSameAsTheOption) {
  EXPECT_EQ(Raw({"hotline", "help"}).out, Raw({"hotline", "--help"}).out);
  for (const char* command : {"get", "lease", "completion", "help"}) {
    const Result result = Raw({"hotline", "help", command});
    EXPECT_EQ(result.code, kExitOk);
    EXPECT_EQ(result.out, Raw({"hotline", command, "--help"}).out);
    EXPECT_THAT(result.out,
                HasSubstr(std::string("Usage: hotline ") + command));
  }
}

}  // namespace
}  // namespace hotline::client
