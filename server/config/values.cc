#include "server/config/values.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace hotline::server {
namespace {

struct Unit {
  std::string_view name;
  int64_t factor;
};

constexpr int64_t kSecond = 1'000'000'000;  // In nanoseconds.
constexpr Unit kLengths[] = {{"h", 3600 * kSecond},
                             {"m", 60 * kSecond},
                             {"s", kSecond},
                             {"ms", kSecond / 1000}};
constexpr Unit kSizes[] = {{"KiB", 1 << 10},  {"MiB", 1 << 20},
                           {"GiB", 1 << 30},  {"KB", 1000},
                           {"MB", 1'000'000}, {"GB", 1'000'000'000}};

constexpr std::string_view kDigits = "0123456789";

// A century: a longer duration is a mistake, and the sum of two still fits.
constexpr int64_t kMostSeconds = int64_t{100} * 365 * 24 * 3600;

// Cuts the characters before the first one (not) in `set` off `text`.
std::string_view TakeOf(std::string_view set, std::string_view* text) {
  const size_t end = std::min(text->find_first_not_of(set), text->size());
  const std::string_view taken = text->substr(0, end);
  text->remove_prefix(end);
  return taken;
}
std::string_view TakeUpTo(std::string_view set, std::string_view* text) {
  const size_t end = std::min(text->find_first_of(set), text->size());
  const std::string_view taken = text->substr(0, end);
  text->remove_prefix(end);
  return taken;
}

std::optional<int64_t> ParseDigits(std::string_view digits) {
  int64_t value = 0;
  const char* const end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

// In nanoseconds. Nothing: they are not whole.
std::optional<int64_t> Fraction(std::string digits, int64_t unit) {
  if (digits.size() > 9) return std::nullopt;
  digits.resize(9, '0');
  const __int128 scaled = static_cast<__int128>(*ParseDigits(digits)) * unit;
  if (scaled % kSecond != 0) return std::nullopt;
  return static_cast<int64_t>(scaled / kSecond);
}

}  // namespace

std::optional<Duration> ParseDuration(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  __int128 total = 0;
  const Unit* unit = std::begin(kLengths);
  while (!text.empty()) {
    const std::string_view whole = TakeOf(kDigits, &text);
    const bool dot = text.starts_with('.');
    if (dot) text.remove_prefix(1);
    const std::string_view fraction =
        dot ? TakeOf(kDigits, &text) : std::string_view();
    const std::string_view name = TakeUpTo(kDigits, &text);
    unit = std::find_if(unit, std::end(kLengths),
                        [name](const Unit& u) { return u.name == name; });
    if (unit == std::end(kLengths) || whole.empty() || whole.size() > 12 ||
        dot == fraction.empty() || (dot && !text.empty())) {
      return std::nullopt;
    }
    total += static_cast<__int128>(*ParseDigits(whole)) * unit->factor;
    if (dot) {
      const auto rest = Fraction(std::string(fraction), unit->factor);
      if (!rest) return std::nullopt;
      total += *rest;
    }
    ++unit;
  }
  const __int128 most = static_cast<__int128>(kMostSeconds + 1) * kSecond;
  const Duration length(static_cast<int64_t>(std::min(total, most)));
  return negative ? -length : length;
}

std::string FormatDuration(Duration length) {
  const int64_t ns = length.count();
  std::string out = absl::StrCat(ns < 0 ? "-" : "", std::abs(ns / kSecond));
  if (const int64_t rest = std::abs(ns % kSecond); rest != 0) {
    std::string fraction = absl::StrCat(rest + kSecond);
    fraction[0] = '.';
    fraction.erase(fraction.find_last_not_of('0') + 1);
    out += fraction;
  }
  return out + "s";
}

std::optional<int64_t> ParseSize(std::string_view text, std::string* wrong) {
  const std::string shown(text.substr(0, 40));
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const std::string_view whole = TakeOf(kDigits, &text);
  const bool dot = text.starts_with('.');
  if (dot) TakeOf(".0123456789", &text);
  const Unit* const unit =
      std::find_if(std::begin(kSizes), std::end(kSizes),
                   [text](const Unit& u) { return u.name == text; });
  if (whole.empty() || unit == std::end(kSizes)) {
    *wrong =
        "expected a whole number of bytes, or one with the unit KiB, "
        "MiB, GiB, KB, MB or GB such as \"64MiB\", not " +
        shown;
    return std::nullopt;
  }
  if (negative || dot) {
    *wrong = shown + (negative ? " is negative"
                               : " has a fraction: use a smaller unit");
    return std::nullopt;
  }
  const auto value = ParseDigits(whole);
  int64_t bytes = 0;
  if (!value || __builtin_mul_overflow(*value, unit->factor, &bytes)) {
    *wrong = shown + " is out of range";
    return std::nullopt;
  }
  return bytes;
}

}  // namespace hotline::server
