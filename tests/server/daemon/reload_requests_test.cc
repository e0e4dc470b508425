#include "server/daemon/reload_requests.h"

#include <atomic>
#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "server/config/config.h"

namespace hotline::server {
namespace {

TEST(ReloadRequestsTest, AllWhoAskedGetTheAnswerOfOneReload) {
  ReloadRequests requests;
  std::atomic<int> asked{0};
  const auto ask = [&] { return requests.Ask([&] { ++asked; }); };
  absl::Status first, second;
  std::thread one([&] { first = ask(); });
  std::thread other([&] { second = ask(); });
  while (asked < 2) std::this_thread::yield();
  ReloadRequests::Asked waiting = requests.Take();
  EXPECT_FALSE(waiting.empty());
  EXPECT_TRUE(requests.Take().empty());
  waiting.Answer(absl::InvalidArgumentError("line 7"));
  one.join();
  other.join();
  EXPECT_EQ(first.message(), "line 7");
  EXPECT_EQ(second.message(), "line 7");
}

TEST(ReloadRequestsTest, RequestsWithSettingsAreAnsweredOneByOne) {
  ReloadRequests requests;
  std::atomic<int> asked{0};
  const auto wake = [&] { ++asked; };
  const auto settings = std::make_shared<const Settings>();
  absl::Status good, bad, plain;
  std::thread one([&] { good = requests.Ask(wake, {settings, "good"}); });
  std::thread two([&] { bad = requests.Ask(wake, {settings, "bad"}); });
  std::thread three([&] { plain = requests.Ask(wake); });
  while (asked < 3) std::this_thread::yield();
  ReloadRequests::Asked waiting = requests.Take();
  waiting.Use([](const ReloadRequests::Update& update) {
    return update.name == "good" ? absl::OkStatus()
                                 : absl::InvalidArgumentError("of no use");
  });
  EXPECT_FALSE(waiting.empty());
  waiting.Answer(absl::InvalidArgumentError("line 7"));
  one.join();
  two.join();
  three.join();
  EXPECT_TRUE(good.ok());
  EXPECT_EQ(bad.message(), "of no use");
  EXPECT_EQ(plain.message(), "line 7");
}

TEST(ReloadRequestsTest, AClosedOneRefusesWhoWaitsAndWhoAsksLater) {
  ReloadRequests requests;
  absl::Status waiting;
  std::atomic<bool> asked{false};
  std::thread caller([&] { waiting = requests.Ask([&] { asked = true; }); });
  while (!asked) std::this_thread::yield();
  requests.Close();
  caller.join();
  EXPECT_TRUE(absl::IsUnavailable(waiting));
  EXPECT_TRUE(absl::IsUnavailable(requests.Ask([] {})));
}

}  // namespace
}  // namespace hotline::server
