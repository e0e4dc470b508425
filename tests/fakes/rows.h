// Tables of test cases in files next to the test.
#ifndef HOTLINE_TESTS_FAKES_ROWS_H_
#define HOTLINE_TESTS_FAKES_ROWS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hotline::testing {

// The rows of a file: one a line, columns separated by one or more tabs. Empty
// lines and lines that begin with '#' are comments. In a column `<TEXT*N>`
// stands for TEXT N times, and `-` alone for an empty column.
//
// `path` is relative to the root of the tree and must be in the test's `data`.
// Fails the test if a row has another number of columns, or if there are fewer
// than `at_least` rows: a table must not lose any.
std::vector<std::vector<std::string>> ReadRows(const std::string& path,
                                               size_t columns, size_t at_least);

// Replaces C escapes: \n, \t, \", \\, octal \303 and so on.
std::string Unescape(std::string_view text);

}  // namespace hotline::testing

#endif  // HOTLINE_TESTS_FAKES_ROWS_H_
