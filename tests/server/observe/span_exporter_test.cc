#include "server/observe/span_exporter.h"

#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "base/log.h"
#include "gtest/gtest.h"
#include "tests/fakes/eventually.h"
#include "tests/fakes/scripted_peer.h"

namespace hotline::server {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using testing::PeerConnection;
using testing::ScriptedPeer;

// A collector that answers with these statuses in turn, then with 200.
class Collector {
 public:
  explicit Collector(std::deque<int> statuses = {})
      : statuses_(std::move(statuses)),
        peer_([this](PeerConnection& peer) { Serve(peer); }) {}

  std::string url() const { return peer_.target() + "/v1/traces?tenant=a"; }
  std::vector<std::string> requests() {
    std::lock_guard lock(mu_);
    return requests_;
  }

 private:
  void Serve(PeerConnection& peer) {
    const std::string request = peer.ReadRequest();
    if (request.empty()) return;
    int status = 200;
    {
      std::lock_guard lock(mu_);
      requests_.push_back(request);
      if (!statuses_.empty()) {
        status = statuses_.front();
        statuses_.pop_front();
      }
    }
    peer.Write("HTTP/1.1 " + std::to_string(status) +
               " Status\r\nContent-Length: 2\r\n\r\n{}");
    peer.AwaitClose();
  }

  std::mutex mu_;
  std::vector<std::string> requests_;
  std::deque<int> statuses_;
  ScriptedPeer peer_;
};

class SpanExporterTest : public ::testing::Test {
 protected:
  SpanExporterTest() {
    SetLogSink([](LogLevel, std::string_view) {});
  }
  ~SpanExporterTest() override { SetLogSink(nullptr); }

  static SpanExporter::Options Fast() {
    return {.instance = "7",
            .batch_interval = milliseconds(1),
            .first_pause = milliseconds(1)};
  }
  static bool Sent(const SpanExporter& exporter, uint64_t count) {
    return Eventually([&] { return exporter.counts().sent == count; });
  }
};

TEST_F(SpanExporterTest, SpansAddedTogetherLeaveInOneRequest) {
  Collector collector;
  SpanExporter::Options options = Fast();
  options.batch_interval = hours(1);
  options.batch_bytes = 12;
  SpanExporter exporter(options);
  exporter.SetCollector(collector.url());
  for (const char* span : {R"({"n":1})", R"({"n":2})"}) {
    EXPECT_TRUE(exporter.MakeRoom());
    exporter.Add(span);
  }
  ASSERT_TRUE(Sent(exporter, 2));
  ASSERT_EQ(collector.requests().size(), 1u);
  const std::string request = collector.requests()[0];
  EXPECT_TRUE(request.starts_with("POST /v1/traces?tenant=a HTTP/1.1\r\n"))
      << request;
  EXPECT_NE(request.find("Content-Type: application/json\r\n"),
            std::string::npos);
  EXPECT_NE(request.find(R"("spans":[{"n":1},{"n":2}])"), std::string::npos)
      << request;
}

TEST_F(SpanExporterTest, ASpanIsSentWhenItHasWaitedLongEnough) {
  Collector collector;
  SpanExporter exporter(Fast());
  exporter.SetCollector(collector.url());
  exporter.Add("{}");
  EXPECT_TRUE(Sent(exporter, 1));
}

TEST_F(SpanExporterTest, ABusyCollectorGetsTheSameBatchAgain) {
  Collector collector({503, 429});
  SpanExporter exporter(Fast());
  exporter.SetCollector(collector.url());
  exporter.Add(R"({"n":1})");
  ASSERT_TRUE(Sent(exporter, 1));
  const auto requests = collector.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0], requests[2]);
  EXPECT_EQ(exporter.counts().refused, 0u);
}

TEST_F(SpanExporterTest, ARefusedBatchIsLostAndCounted) {
  Collector collector({400});
  SpanExporter exporter(Fast());
  exporter.SetCollector(collector.url());
  exporter.Add("{}");
  EXPECT_TRUE(Eventually([&] { return exporter.counts().refused == 1; }));
  exporter.Add("{}");
  EXPECT_TRUE(Sent(exporter, 1));
}

TEST_F(SpanExporterTest, WithoutACollectorSpansAreDropped) {
  SpanExporter exporter(Fast());
  EXPECT_FALSE(exporter.MakeRoom());
  exporter.Add("{}");
  EXPECT_EQ(exporter.counts().dropped, 2u);
}

TEST_F(SpanExporterTest, AnAbsentCollectorFillsTheQueueAndNoMore) {
  std::string url;
  {
    const Collector gone;
    url = gone.url();
  }
  SpanExporter::Options options = Fast();
  options.max_queued_bytes = 1000;
  options.first_pause = hours(1);
  SpanExporter exporter(options);
  exporter.SetCollector(url);
  const std::string span(100, ' ');
  // The first batch is at hand for another attempt, the queue is full.
  EXPECT_TRUE(Eventually([&] {
    if (!exporter.MakeRoom()) return true;
    exporter.Add(span);
    return exporter.counts().dropped > 0;
  }));
  // If its thread is late, the queue becomes the first batch only now.
  constexpr int kMostQueued = 10;
  for (int i = 0; i < 1000; ++i) exporter.Add(span);
  EXPECT_GE(exporter.counts().dropped, 1000u - kMostQueued);
  EXPECT_EQ(exporter.counts().sent, 0u);
}

TEST_F(SpanExporterTest, AnotherCollectorGetsWhatTheFirstOneDidNot) {
  std::string url;
  {
    const Collector gone;
    url = gone.url();
  }
  SpanExporter::Options options = Fast();
  options.first_pause = hours(1);
  SpanExporter exporter(options);
  exporter.SetCollector(url);
  exporter.Add("{}");
  Collector collector;
  exporter.SetCollector(collector.url());
  EXPECT_TRUE(Sent(exporter, 1));
}

TEST_F(SpanExporterTest, SwitchedOffItDropsWhatIsQueued) {
  Collector collector;
  SpanExporter::Options options = Fast();
  options.batch_interval = hours(1);
  SpanExporter exporter(options);
  exporter.SetCollector(collector.url());
  exporter.Add("{}");
  exporter.SetCollector("");
  EXPECT_TRUE(Eventually([&] { return exporter.counts().dropped == 1; }));
  EXPECT_TRUE(collector.requests().empty());
}

TEST_F(SpanExporterTest, StopSendsWhatIsQueued) {
  Collector collector;
  SpanExporter::Options options = Fast();
  options.batch_interval = hours(1);
  SpanExporter exporter(options);
  exporter.SetCollector(collector.url());
  exporter.Add("{}");
  exporter.Stop(hours(1));
  EXPECT_EQ(exporter.counts().sent, 1u);
  exporter.Add("{}");
  EXPECT_EQ(exporter.counts().dropped, 1u);
}

TEST_F(SpanExporterTest, StopGivesUpACollectorThatDoesNotAnswer) {
  ScriptedPeer silent([](PeerConnection& peer) { peer.AwaitClose(); });
  SpanExporter::Options options = Fast();
  options.timeout = hours(1);
  SpanExporter exporter(options);
  exporter.SetCollector(silent.target() + "/");
  exporter.Add("{}");
  EXPECT_TRUE(Eventually([&] { return silent.accepted() == 1; }));
  exporter.Stop(milliseconds(1));
  EXPECT_EQ(exporter.counts().sent, 0u);
}

TEST_F(SpanExporterTest, ASilentCollectorIsGivenUpAfterTheTimeout) {
  ScriptedPeer silent([](PeerConnection& peer) { peer.AwaitClose(); });
  SpanExporter::Options options = Fast();
  options.timeout = milliseconds(10);
  SpanExporter exporter(options);
  exporter.SetCollector(silent.target() + "/");
  exporter.Add("{}");
  EXPECT_TRUE(Eventually([&] { return silent.accepted() >= 2; }));
}

}  // namespace
}  // namespace hotline::server
