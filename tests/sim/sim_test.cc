// Drives the pool with seeded chance. By default a thousand seeds, ten million
// events in all.
//
//   --seed=N, HOTLINE_SIM_SEED=N      this one seed, with a trace to stderr
//                                     when HOTLINE_SIM_TRACE is set
//   --seeds=N, HOTLINE_SIM_SEEDS=N    so many of them
//   --events=N, HOTLINE_SIM_EVENTS=N  of each
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/sim/simulation.h"

namespace hotline::sim {
namespace {

uint64_t first_seed = 1;
int seeds = 1000;
int events = 10'000;
bool trace = false;

TEST(Simulation, KeepsTheInvariantsWhateverHappens) {
  uint64_t all_events = 0;
  uint64_t granted = 0;
  uint64_t queued = 0;
  PeerEvents peers;
  uint64_t opened = 0;
  uint64_t barred = 0;
  uint64_t early = 0;
  for (int i = 0; i < seeds; ++i) {
    Simulation simulation(first_seed + i, trace);
    const std::string problem = simulation.Run(events);
    ASSERT_EQ(problem, "") << "Repeat it with --seed=" << first_seed + i;
    all_events += simulation.events();
    granted += simulation.granted();
    queued += simulation.queued();
    opened += simulation.opened();
    barred += simulation.barred();
    early += simulation.early();
    peers.goaways += simulation.peer_events().goaways;
    peers.raised += simulation.peer_events().raised;
    peers.lowered += simulation.peer_events().lowered;
    peers.stopped += simulation.peer_events().stopped;
  }
  std::printf("%d seeds from %llu: %llu events, %llu grants, %llu waits\n",
              seeds, static_cast<unsigned long long>(first_seed),
              static_cast<unsigned long long>(all_events),
              static_cast<unsigned long long>(granted),
              static_cast<unsigned long long>(queued));
  std::printf(
      "of peers: %llu GOAWAYs; limits raised %llu times, lowered %llu times, "
      "to none %llu times\n",
      static_cast<unsigned long long>(peers.goaways),
      static_cast<unsigned long long>(peers.raised),
      static_cast<unsigned long long>(peers.lowered),
      static_cast<unsigned long long>(peers.stopped));
  // A simulation in which nothing happens proves nothing.
  EXPECT_GT(granted, all_events / 100);
  EXPECT_GT(queued, all_events / 100);
  std::printf(
      "%llu circuits opened, %llu callers barred; %llu connections ended on "
      "probation\n",
      static_cast<unsigned long long>(opened),
      static_cast<unsigned long long>(barred),
      static_cast<unsigned long long>(early));
  EXPECT_GT(early, all_events / 10'000);
  if (seeds < 30) return;  // A few of them may have no HTTP/2.
  EXPECT_GT(peers.goaways, all_events / 1000);
  for (const uint64_t n : {peers.raised, peers.lowered, peers.stopped}) {
    EXPECT_GT(n, all_events / 10'000);
  }
  if (seeds < 100) return;  // Not every seed has a breaker.
  EXPECT_GT(opened, all_events / 10'000);
  EXPECT_GT(barred, all_events / 10'000);
}

TEST(Simulation, RunsTheSameWayForTheSameSeed) {
  Simulation one(first_seed);
  Simulation two(first_seed);
  EXPECT_EQ(one.Run(2000), two.Run(2000));
  EXPECT_EQ(one.events(), two.events());
  EXPECT_EQ(one.granted(), two.granted());
}

void Read(const char* name, const char* variable, int argc, char** argv,
          int64_t* value, bool* given) {
  if (const char* text = std::getenv(variable)) {
    *value = std::atoll(text);
    *given = true;
  }
  const std::string prefix = std::string("--") + name + "=";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind(prefix, 0) != 0) continue;
    *value = std::atoll(argument.c_str() + prefix.size());
    *given = true;
  }
}

void ReadOptions(int argc, char** argv) {
  int64_t value = 0;
  bool given = false;
  Read("seed", "HOTLINE_SIM_SEED", argc, argv, &value, &given);
  if (given) {
    first_seed = static_cast<uint64_t>(value);
    seeds = 1;
  }
  given = false;
  Read("seeds", "HOTLINE_SIM_SEEDS", argc, argv, &value, &given);
  if (given) seeds = static_cast<int>(value);
  given = false;
  Read("events", "HOTLINE_SIM_EVENTS", argc, argv, &value, &given);
  if (given) events = static_cast<int>(value);
  trace = std::getenv("HOTLINE_SIM_TRACE") != nullptr;
}

}  // namespace
}  // namespace hotline::sim

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  hotline::sim::ReadOptions(argc, argv);
  return RUN_ALL_TESTS();
}
