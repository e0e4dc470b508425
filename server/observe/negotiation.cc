#include "server/observe/negotiation.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "base/http_chars.h"

namespace hotline::server {
namespace {

constexpr std::string_view kOpenMetricsType = "application/openmetrics-text";

// Removes and returns the text up to `separator`, or all, without white space
// around it.
std::string_view TakeUpTo(char separator, std::string_view* text) {
  const size_t end = std::min(text->find(separator), text->size());
  std::string_view part = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  const size_t first = std::min(part.find_first_not_of(" \t"), part.size());
  part.remove_prefix(first);
  const size_t last = part.find_last_not_of(" \t");
  return last == std::string_view::npos ? part : part.substr(0, last + 1);
}

// One element of a header: `name;key=value;…`.
struct Choice {
  std::string name;
  std::string version;
  double quality = 1;
};

Choice ParseChoice(std::string_view element) {
  Choice choice;
  choice.name = LowerCase(TakeUpTo(';', &element));
  while (!element.empty()) {
    std::string_view value = TakeUpTo(';', &element);
    const std::string key = LowerCase(TakeUpTo('=', &value));
    if (key == "version") choice.version = value;
    if (key != "q") continue;
    const char* const end = value.data() + value.size();
    const auto parsed = std::from_chars(value.data(), end, choice.quality);
    if (parsed.ec != std::errc() || parsed.ptr != end) choice.quality = 0;
  }
  return choice;
}

// The highest quality of the elements for which `matches`; -1: there is none.
template <typename Matches>
double QualityOf(std::string_view header, Matches matches) {
  double best = -1;
  while (!header.empty()) {
    const Choice choice = ParseChoice(TakeUpTo(',', &header));
    if (matches(choice)) best = std::max(best, choice.quality);
  }
  return best;
}

}  // namespace

MetricsFormat FormatFor(std::string_view accept) {
  const double open = QualityOf(accept, [](const Choice& choice) {
    return choice.name == kOpenMetricsType &&
           (choice.version.empty() || choice.version == "1.0.0" ||
            choice.version == "0.0.1");
  });
  const double text = QualityOf(accept, [](const Choice& choice) {
    return choice.name == "text/plain" || choice.name == "text/*";
  });
  return open > 0 && open >= text ? MetricsFormat::kOpenMetrics
                                  : MetricsFormat::kText;
}

bool AcceptsGzip(std::string_view accept_encoding) {
  const double named = QualityOf(accept_encoding, [](const Choice& choice) {
    return choice.name == "gzip" || choice.name == "x-gzip";
  });
  if (named >= 0) return named > 0;
  return QualityOf(accept_encoding,
                   [](const Choice& choice) { return choice.name == "*"; }) > 0;
}

std::string Gzip(std::string_view text) {
  constexpr int kGzipWindow = 15 + 16;  // See deflateInit2 in zlib.h.
  constexpr int kMemory = 8;
  z_stream stream{};
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow, kMemory,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    return "";
  }
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in =
      reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));  // Only read.
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = deflate(&stream, Z_FINISH);
  out.resize(result == Z_STREAM_END ? stream.total_out : 0);
  deflateEnd(&stream);
  return out;
}

}  // namespace hotline::server
