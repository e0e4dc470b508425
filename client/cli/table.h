// Aligned columns for people.
#ifndef HOTLINE_CLIENT_CLI_TABLE_H_
#define HOTLINE_CLIENT_CLI_TABLE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hotline::client {

// The number of characters of UTF-8 text.
size_t DisplayWidth(std::string_view text);

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Cells may contain any bytes: they are shown as Printable (base/text.h).
  // REQUIRES: one cell per column.
  void Add(std::vector<std::string> cells);

  // A line of titles, then one per row; two spaces between columns, none at the
  // end of a line. Widths are in characters, not bytes. With `color` titles are
  // bold.
  std::string Render(bool color) const;

  bool empty() const { return rows_.empty(); }

 private:
  std::string Line(const std::vector<std::string>& cells,
                   const std::vector<size_t>& widths) const;

  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_TABLE_H_
