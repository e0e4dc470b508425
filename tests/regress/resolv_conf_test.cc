// A resolv.conf that was read once.
//
// hotlined read the system's DNS configuration at its start only. After a node
// had changed its network, or in a container that was started before its
// network was ready, every name failed until the process was restarted.
//
// Now a changed file is read again. It is checked before a query, never for a
// cached answer.
#include <gtest/gtest.h>
#include <stdio.h>

#include <future>
#include <memory>
#include <string>

#include "tests/fakes/scripted_dns.h"
#include "tests/fakes/test_certs.h"
#include "upstream/address/resolver.h"

namespace hotline::upstream {
namespace {

using testing::ScriptedDns;
using testing::WriteFile;
using Result = Resolver::Result;

class ResolvConfTest : public ::testing::Test {
 protected:
  ResolvConfTest() : path_(testing::TestDirectory() + "/resolv.conf") {}
  ~ResolvConfTest() override {
    if (resolver_ == nullptr) return;
    loop_.Post([this] {
      resolver_->Shutdown();
      loop_.Finish();
    });
    loop_.Join();
  }

  void Start(const std::vector<std::string>& servers = {}) {
    auto made = Resolver::Create(
        &loop_, servers,
        {.path = path_, .port = static_cast<uint16_t>(old_.port())});
    ASSERT_TRUE(made.ok()) << made.status();
    resolver_ = *std::move(made);
    loop_.Start();
  }
  std::future<Result> Ask(const std::string& host) {
    auto promise = std::make_shared<std::promise<Result>>();
    resolver_->Resolve(host, [promise](Result result) {
      promise->set_value(std::move(result));
    });
    return promise->get_future();
  }
  static std::string Text(const Result& result) {
    return result.ok() ? result->addresses[0].ToString() : "none";
  }
  // As most programs do it: another file takes its place.
  void Replace(const std::string& text) {
    WriteFile(path_ + ".new", text);
    ASSERT_EQ(0, rename((path_ + ".new").c_str(), path_.c_str()));
  }

  const std::string path_;
  ScriptedDns old_{{{"a.test", {.addresses = {"192.0.2.1"}}},
                    {"b.test", {.addresses = {"192.0.2.1"}}},
                    {"stuck.test", {.addresses = {}, .silent = true}}}};
  ScriptedDns new_{{{"a.test", {.addresses = {"192.0.2.2"}}},
                    {"b.test", {.addresses = {"192.0.2.2"}}},
                    {"stuck.test", {.addresses = {"192.0.2.2"}}}},
                   "127.0.0.2",
                   old_.port()};
  net::Loop loop_;
  std::unique_ptr<Resolver> resolver_;
};

TEST_F(ResolvConfTest, ReplacedOneIsUsedForTheNextQuestion) {
  WriteFile(path_, "nameserver 127.0.0.1\n");
  Start();
  EXPECT_EQ(Text(Ask("a.test.").get()), "192.0.2.1");
  Replace("nameserver 127.0.0.2\n");
  EXPECT_EQ(Text(Ask("b.test.").get()), "192.0.2.2");
  // What is known stays known for its time.
  EXPECT_EQ(Text(Ask("a.test.").get()), "192.0.2.1");
}

TEST_F(ResolvConfTest, AFileRewrittenInPlaceIsUsedToo) {
  WriteFile(path_, "nameserver 127.0.0.1\n");
  Start();
  EXPECT_EQ(Text(Ask("a.test.").get()), "192.0.2.1");
  WriteFile(path_, "# Another length.\nnameserver 127.0.0.2\n");
  EXPECT_EQ(Text(Ask("b.test.").get()), "192.0.2.2");
}

TEST_F(ResolvConfTest, AFileCreatedLaterIsFound) {
  remove(path_.c_str());
  Start();
  WriteFile(path_, "nameserver 127.0.0.2\n");
  EXPECT_EQ(Text(Ask("a.test.").get()), "192.0.2.2");
}

TEST_F(ResolvConfTest, QueriesToARemovedServerAreRepeated) {
  WriteFile(path_, "nameserver 127.0.0.1\n");
  Start();
  auto stuck = Ask("stuck.test.");
  while (old_.questions("stuck.test") == 0) std::this_thread::yield();
  Replace("nameserver 127.0.0.2\n");
  // Another question finds the change, ...
  EXPECT_EQ(Text(Ask("a.test.").get()), "192.0.2.2");
  EXPECT_EQ(Text(stuck.get()), "192.0.2.2");
}

TEST_F(ResolvConfTest, QuestionsWithoutAFollowerAreAskedAgainToo) {
  WriteFile(path_, "nameserver 127.0.0.1\n");
  Start();
  auto stuck = Ask("stuck.test.");
  while (old_.questions("stuck.test") == 0) std::this_thread::yield();
  Replace("nameserver 127.0.0.2\n");
  // ... or, without one, the end of the server's time.
  EXPECT_EQ(Text(stuck.get()), "192.0.2.2");
}

TEST_F(ResolvConfTest, SearchListIsReadAnewWhateverTheServers) {
  WriteFile(path_, "search one\nnameserver 192.0.2.53\n");
  Start({old_.address()});
  EXPECT_EQ(Text(Ask("a").get()), "none");
  EXPECT_EQ(old_.names().front(), "a.one");
  Replace("search test\nnameserver 192.0.2.53\n");
  EXPECT_EQ(Text(Ask("b").get()), "192.0.2.1");
}

}  // namespace
}  // namespace hotline::upstream
