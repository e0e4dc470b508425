#include "server/config/faults.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace hotline::server {
namespace {

// Messages show values whole, or their first 64 or 40 bytes; quoted or not.
std::string Without(const HiddenValue& hidden, std::string text) {
  for (const size_t length : {hidden.value.size(), size_t{64}, size_t{40}}) {
    const std::string value = hidden.value.substr(0, length);
    if (value.empty()) continue;
    const std::string quoted = Quoted(value);
    absl::StrReplaceAll({{quoted.substr(1, quoted.size() - 2), hidden.written}},
                        &text);
    absl::StrReplaceAll({{value, hidden.written}}, &text);
  }
  return text;
}

}  // namespace

void ConfigFaults::Add(Place place, std::string_view path,
                       std::string_view text) {
  std::string fault =
      absl::StrCat(file_, ":", place.line, ":", place.column, ": ");
  if (!path.empty()) {
    fault += path;
    fault += ": ";
    paths_.emplace(path);
  }
  const auto hidden =
      hidden_ == nullptr ? HiddenValues::const_iterator() : hidden_->find(path);
  if (hidden_ == nullptr || hidden == hidden_->end()) {
    fault += text;
  } else {
    fault += Without(hidden->second, std::string(text));
  }
  faults_.emplace(place, std::move(fault));
}

bool ConfigFaults::Touch(std::string_view path) const {
  for (const char separator : {'.', '['}) {
    const std::string within = std::string(path) + separator;
    const auto found = paths_.lower_bound(within);
    if (found != paths_.end() && found->starts_with(within)) return true;
  }
  while (!paths_.contains(path)) {
    const size_t end = path.find_last_of(".[");
    if (end == std::string_view::npos) return false;
    path = path.substr(0, end);
  }
  return true;
}

std::vector<std::string> ConfigFaults::Lines() const {
  std::vector<std::string> lines;
  for (const auto& [place, fault] : faults_) {
    if (lines.size() == kMost) {
      lines.push_back(absl::StrCat(file_, ": and ", faults_.size() - kMost,
                                   " more faults"));
      break;
    }
    lines.push_back(fault);
  }
  return lines;
}

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppend(&out, "\\x", absl::Hex(c, absl::kZeroPad2));
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

}  // namespace hotline::server
