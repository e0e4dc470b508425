#include "tests/fakes/rows.h"

#include <cstdlib>
#include <fstream>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace hotline::testing {
namespace {

// Replaces each <TEXT*N>.
std::string Expand(std::string text) {
  for (size_t star = text.find('*'); star != std::string::npos;
       star = text.find('*', star + 1)) {
    const size_t begin = text.rfind('<', star);
    const size_t end = text.find_first_not_of("0123456789", star + 1);
    if (begin == std::string::npos || end == std::string::npos ||
        end == star + 1 || text[end] != '>') {
      continue;
    }
    const std::string piece = text.substr(begin + 1, star - begin - 1);
    std::string pieces;
    for (int left = std::atoi(&text[star + 1]); left > 0; --left) {
      pieces += piece;
    }
    text.replace(begin, end + 1 - begin, pieces);
    star = begin + pieces.size() - 1;
  }
  return text;
}

std::vector<std::string> Columns(const std::string& line) {
  std::vector<std::string> columns;
  size_t begin = 0;
  while (begin != std::string::npos) {
    const size_t end = line.find('\t', begin);
    const std::string column = line.substr(begin, end - begin);
    columns.push_back(column == "-" ? "" : Expand(column));
    begin = line.find_first_not_of('\t', end);
  }
  return columns;
}

}  // namespace

std::vector<std::vector<std::string>> ReadRows(const std::string& path,
                                               size_t columns,
                                               size_t at_least) {
  std::vector<std::vector<std::string>> rows;
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string> row = Columns(line);
    EXPECT_EQ(row.size(), columns) << path << ": " << line;
    if (row.size() == columns) rows.push_back(std::move(row));
  }
  EXPECT_GE(rows.size(), at_least) << path;
  return rows;
}

std::string Unescape(std::string_view text) {
  std::string out;
  std::string error;
  EXPECT_TRUE(absl::CUnescape({text.data(), text.size()}, &out, &error))
      << text << ": " << error;
  return out;
}

}  // namespace hotline::testing
