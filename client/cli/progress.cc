#include "client/cli/progress.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace hotline::client {
namespace {

constexpr Duration kRedraw = std::chrono::milliseconds(100);
constexpr int kColumns = 79;
constexpr int kLeastBar = 10;

}  // namespace

std::string FormatBytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  if (unit == 0) return absl::StrFormat("%.0f B", bytes);
  return absl::StrFormat("%.*f %s", bytes < 9.95 ? 2 : 1, bytes, kUnits[unit]);
}

std::string FormatProgress(uint64_t done, std::optional<uint64_t> whole,
                           Duration since, int width) {
  const double seconds =
      std::max(std::chrono::duration<double>(since).count(), 1e-3);
  const std::string rate =
      absl::StrCat(FormatBytes(static_cast<double>(done) / seconds), "/s");
  if (!whole.has_value()) {
    return absl::StrCat(FormatBytes(static_cast<double>(done)), "  ", rate);
  }
  const double share = *whole == 0
                           ? 1.0
                           : std::min(1.0, static_cast<double>(done) /
                                               static_cast<double>(*whole));
  const std::string figures =
      absl::StrFormat(" %3.0f %%  %s of %s  %s", share * 100, FormatBytes(done),
                      FormatBytes(static_cast<double>(*whole)), rate);
  const int room = width - static_cast<int>(figures.size()) - 2;
  if (room < kLeastBar) return figures.substr(1);
  const int full = static_cast<int>(share * room);
  return absl::StrCat("[", std::string(full, '#'),
                      std::string(room - full, ' '), "]", figures);
}

void Progress::Start(std::optional<uint64_t> whole, Instant now) {
  whole_ = whole;
  start_ = drawn_ = now;
}

void Progress::Update(uint64_t done, Instant now) {
  if (terminal_ == nullptr || now - drawn_ < kRedraw) return;
  drawn_ = now;
  shown_ = true;
  *terminal_ << "\r\033[K"
             << FormatProgress(done, whole_, now - start_, kColumns)
             << std::flush;
}

void Progress::Clear() {
  if (shown_) *terminal_ << "\r\033[K" << std::flush;
  shown_ = false;
}

}  // namespace hotline::client
