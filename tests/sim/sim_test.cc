// Drives the pool with random events from a seed. By default a thousand seeds
// and ten million events in all.
//
//   --seed=N, HOTLINE_SIM_SEED=N      only this seed, with a trace to stderr if
//                                     HOTLINE_SIM_TRACE is set
//   --seeds=N, HOTLINE_SIM_SEEDS=N    number of seeds
//   --events=N, HOTLINE_SIM_EVENTS=N  number of events of each seed
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

#include "tests/sim/simulation.h"

namespace hotline::sim {
namespace {

uint64_t first_seed = 1;
int seeds = 1000;
int events = 10'000;
bool trace = false;

// Sums over all seeds.
struct Totals {
  void Add(const Simulation& simulation) {
    const PeerEvents& more = simulation.peer_events();
    events += simulation.events();
    granted += simulation.granted();
    queued += simulation.queued();
    opened += simulation.opened();
    barred += simulation.barred();
    early += simulation.early();
    away += simulation.away();
    evicted += simulation.evicted();
    peers.goaways += more.goaways;
    peers.raised += more.raised;
    peers.lowered += more.lowered;
    peers.stopped += more.stopped;
  }
  void Print() const {
    std::cout << events << " events, " << granted << " grants, " << queued
              << " waits\n"
              << peers.goaways << " GOAWAYs; stream limits raised "
              << peers.raised << " times, lowered " << peers.lowered
              << " times, to 0 " << peers.stopped << " times\n"
              << opened << " circuits opened, " << barred << " callers barred; "
              << early << " connections ended on probation; " << away
              << " leases on another loop's connection; " << evicted
              << " connections closed by an operator\n";
  }

  uint64_t events = 0;
  uint64_t granted = 0;
  uint64_t queued = 0;
  uint64_t opened = 0;
  uint64_t barred = 0;
  uint64_t early = 0;
  uint64_t away = 0;
  uint64_t evicted = 0;
  PeerEvents peers;
};

TEST(Simulation, KeepsTheInvariants) {
  Totals totals;
  for (int i = 0; i < seeds; ++i) {
    Simulation simulation(first_seed + i, trace);
    const std::string problem = simulation.Run(events);
    ASSERT_EQ(problem, "") << "Repeat it with --seed=" << first_seed + i;
    totals.Add(simulation);
  }
  std::cout << seeds << " seeds from " << first_seed << ": ";
  totals.Print();
  // A simulation in which nothing happens proves nothing.
  EXPECT_GT(totals.granted, totals.events / 100);
  EXPECT_GT(totals.queued, totals.events / 100);
  EXPECT_GT(totals.early, totals.events / 10'000);
  EXPECT_GT(totals.away, totals.events / 1000);
  EXPECT_GT(totals.evicted, totals.events / 10'000);
  if (seeds < 30) return;  // A few seeds may have no HTTP/2.
  const PeerEvents& peers = totals.peers;
  EXPECT_GT(peers.goaways, totals.events / 1000);
  for (const uint64_t n : {peers.raised, peers.lowered, peers.stopped}) {
    EXPECT_GT(n, totals.events / 10'000);
  }
  if (seeds < 100) return;  // Not every seed has a breaker.
  EXPECT_GT(totals.opened, totals.events / 10'000);
  EXPECT_GT(totals.barred, totals.events / 10'000);
}

TEST(Simulation, TheSameSeedRunsTheSameWay) {
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
