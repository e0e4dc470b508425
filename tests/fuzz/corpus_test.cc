// Replays the corpus of every fuzz target, so that each test run covers what
// the fuzzers found; and, cheaply, what lies next to it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fuzz/targets.h"

namespace hotline::fuzz {
namespace {

std::vector<std::string> Corpus(const char* name) {
  std::vector<std::filesystem::path> paths;
  const auto folder = std::filesystem::path("tests/fuzz/corpus") / name;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> inputs;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file),
                        std::istreambuf_iterator<char>());
    EXPECT_FALSE(inputs.back().empty()) << path;
  }
  return inputs;
}

class CorpusTest : public ::testing::TestWithParam<Target> {};

TEST_P(CorpusTest, EveryFileKeepsThePromises) {
  const std::vector<std::string> inputs = Corpus(GetParam().name);
  EXPECT_GE(inputs.size(), 10u);
  for (const std::string& input : inputs) GetParam().run(input);
}

TEST_P(CorpusTest, SoDoItsPrefixesAndItsNeighbours) {
  std::mt19937 random(7);
  for (const std::string& input : Corpus(GetParam().name)) {
    const size_t step = 1 + input.size() / 100;
    for (size_t size = 0; size < input.size(); size += step) {
      GetParam().run(std::string_view(input).substr(0, size));
    }
    for (int i = 0; i < 100; ++i) {
      std::string changed = input;
      changed[random() % changed.size()] = static_cast<char>(random());
      GetParam().run(changed);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, CorpusTest, ::testing::ValuesIn(kTargets),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace hotline::fuzz
