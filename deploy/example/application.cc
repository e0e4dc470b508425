// An example application that calls its upstream through Hotline; the sidecar's
// tests run it.
//
// A number of workers request one URL repeatedly. At SIGTERM they start no new
// calls and finish those in progress; the last line has the result: "stopped:
// 1234 calls, 0 failed". No call is lost as long as the broker outlives the
// application, which the shutdown order of a pod ensures.
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "client/broker_client.h"

namespace hotline::example {
namespace {

struct Options {
  std::string address = "unix:///run/hotline/hotline.sock";
  std::string url;
  std::string method = "GET";
  int workers = 2;
  // Pause of a worker between two calls.
  int pause_ms = 1000;
};

struct Counts {
  std::atomic<int64_t> calls{0};
  std::atomic<int64_t> failed{0};
};

// One call. The client library already retries what is safe to retry.
void CallOnce(client::BrokerClient& broker, const Options& options,
              Counts& counts) {
  v1::ExecuteRequest request;
  request.set_url(options.url);
  request.set_method(options.method);
  const auto answer =
      broker.Execute(request, {.timeout = std::chrono::seconds(10)});
  ++counts.calls;
  if (answer.ok() && answer->status() < 400) return;
  ++counts.failed;
  if (!answer.ok()) {
    const auto info = client::GetErrorInfo(answer.status());
    std::cerr << (info ? info->reason : "no broker") << ": "
              << answer.status().message() << std::endl;
  } else {
    std::cerr << "status " << answer->status() << std::endl;
  }
}

// The containers of a pod start together, so the broker may start later.
bool AwaitBroker(client::BrokerClient& broker, const std::atomic<bool>& stop) {
  for (int attempt = 0; attempt < 300 && !stop; ++attempt) {
    const auto health =
        broker.CheckHealth("", {.timeout = std::chrono::seconds(1)});
    if (health.ok() && *health == client::Health::kServing) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

int Run(const Options& options) {
  auto broker = client::BrokerClient::Create({.address = options.address});
  if (!broker.ok()) {
    std::cerr << broker.status().message() << std::endl;
    return 2;
  }
  // Blocked before the first thread starts: only Run() waits for them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  std::atomic<bool> stop{false};
  Counts counts;
  std::vector<std::jthread> workers;
  for (int i = 0; i < options.workers; ++i) {
    workers.emplace_back([&] {
      if (!AwaitBroker(**broker, stop)) return;
      while (!stop) {
        CallOnce(**broker, options, counts);
        std::this_thread::sleep_for(
            std::chrono::milliseconds(options.pause_ms));
      }
    });
  }
  std::cout << "started" << std::endl;
  int signal = 0;
  sigwait(&signals, &signal);
  stop = true;
  workers.clear();  // Joins: calls in progress finish.
  std::cout << "stopped: " << counts.calls << " calls, " << counts.failed
            << " failed" << std::endl;
  return counts.failed == 0 ? 0 : 1;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Asks for a URL through Hotline, again and again.",
               "hotline-example"};
  app.add_option("--address", options.address, "Where the broker listens")
      ->envname("HOTLINE_ADDRESS")
      ->capture_default_str();
  app.add_option("--method", options.method)->capture_default_str();
  app.add_option("--workers", options.workers)
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--pause-ms", options.pause_ms)
      ->check(CLI::Range(0, 3'600'000))
      ->capture_default_str();
  app.add_option("URL", options.url)->required();
  CLI11_PARSE(app, argc, argv);
  return Run(options);
}

}  // namespace
}  // namespace hotline::example

int main(int argc, char** argv) { return hotline::example::Main(argc, argv); }
