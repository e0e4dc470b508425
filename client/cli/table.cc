#include "client/cli/table.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/text.h"

namespace hotline::client {
// Of bytes that are no continuation bytes.
size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(),
      [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

void Table::Add(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = Printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::Line(const std::vector<std::string>& cells,
                        const std::vector<size_t>& widths) const {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) line += "  ";
    const std::string space(widths[i] - DisplayWidth(cells[i]), ' ');
    line += columns_[i].align == Align::kRight ? space + cells[i]
                                               : cells[i] + space;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

std::string Table::Render(bool color) const {
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = DisplayWidth(titles[i]);
    for (const auto& row : rows_) width = std::max(width, DisplayWidth(row[i]));
    widths.push_back(width);
  }
  std::string text = Line(titles, widths);
  if (color) text = "\033[1m" + text + "\033[0m";
  text += '\n';
  for (const auto& row : rows_) text += Line(row, widths) + "\n";
  return text;
}

}  // namespace hotline::client
