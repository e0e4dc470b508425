#include "server/observe/metrics_text.h"

#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <limits>

#include "base/text.h"

namespace hotline::server {
namespace {

constexpr std::string_view kTotal = "_total";

std::string_view NameOf(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "";
}

void Append(std::initializer_list<std::string_view> pieces, std::string* to) {
  for (const std::string_view piece : pieces) to->append(piece);
}

void AppendNumber(double value, std::string* to) {
  constexpr double kExact = 1e15;
  if (std::isinf(value)) {
    to->append(value > 0 ? "+Inf" : "-Inf");
  } else if (value == std::floor(value) && std::abs(value) < kExact) {
    to->append(std::to_string(static_cast<int64_t>(value)));
  } else {
    char text[32];
    to->append(text, static_cast<size_t>(
                         std::snprintf(text, sizeof(text), "%.15g", value)));
  }
}

// A bucket's bound, the same in both formats: OpenMetrics demands a point.
std::string BoundText(double bound) {
  std::string text;
  AppendNumber(bound, &text);
  if (text.find_first_of(".eI") == std::string::npos) text.append(".0");
  return text;
}

void AppendEscaped(std::string_view text, std::string* to) {
  for (const char c : text) {
    if (c == '\\' || c == '"') to->push_back('\\');
    c == '\n' ? to->append("\\n") : to->append(1, c);
  }
}

// `name="value",…`, without braces.
std::string LabelsText(MetricsFamily::Labels labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    if (!text.empty()) text.push_back(',');
    Append({name, "=\""}, &text);
    // Prometheus rejects a whole page for one label that is not UTF-8.
    AppendEscaped(ToUtf8(std::string(value)), &text);
    text.push_back('"');
  }
  return text;
}

double MonotonicEpoch() {
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(wall).count() -
         ToSeconds(MonotonicNow().time_since_epoch());
}

}  // namespace

MetricsPage::MetricsPage(MetricsFormat format)
    : format_(format), monotonic_epoch_(MonotonicEpoch()) {}

std::string MetricsPage::Finish() && {
  if (format_ == MetricsFormat::kOpenMetrics) text_.append("# EOF\n");
  return std::move(text_);
}

MetricsFamily::MetricsFamily(MetricsPage* page, MetricType type,
                             std::string_view name, std::string_view help)
    : page_(*page), name_(name) {
  std::string_view family = name;
  if (type == MetricType::kCounter &&
      page->format_ == MetricsFormat::kOpenMetrics &&
      family.ends_with(kTotal)) {
    family.remove_suffix(kTotal.size());
  }
  std::string& text = page->text_;
  Append({"# HELP ", family, " "}, &text);
  // Only OpenMetrics escapes quotes here.
  if (page->format_ == MetricsFormat::kOpenMetrics) {
    AppendEscaped(help, &text);
  } else {
    text.append(help);
  }
  Append({"\n# TYPE ", family, " ", NameOf(type), "\n"}, &text);
}

void MetricsFamily::AppendSample(std::string_view suffix,
                                 std::string_view labels, double value) {
  std::string& text = page_.text_;
  Append({name_, suffix}, &text);
  if (!labels.empty()) Append({"{", labels, "}"}, &text);
  text.push_back(' ');
  AppendNumber(value, &text);
}

void MetricsFamily::Value(Labels labels, double value) {
  AppendSample("", LabelsText(labels), value);
  page_.text_.push_back('\n');
}

void MetricsFamily::Counts(Labels labels, const HistogramCounts& counts,
                           HistogramScale scale,
                           std::span<const Exemplar> exemplars) {
  const std::string text = LabelsText(labels);
  uint64_t sum = 0;
  int first = 0;  // Of the buckets that are shown as one.
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    sum += counts.counts[i];
    const bool last = i == Histogram::kBuckets - 1;
    if (scale.coarse && i % 2 != 0 && !last) continue;
    const double bound = last ? std::numeric_limits<double>::infinity()
                              : ToSeconds(Histogram::Bound(i)) * scale.unit;
    std::string with_bound = text;
    Append({text.empty() ? "" : ",", "le=\"", BoundText(bound), "\""},
           &with_bound);
    AppendSample("_bucket", with_bound, static_cast<double>(sum));
    AppendExemplar(exemplars, first, i);
    page_.text_.push_back('\n');
    first = i + 1;
  }
  AppendSample("_sum", text, ToSeconds(Duration(counts.sum_ns)) * scale.unit);
  page_.text_.push_back('\n');
  AppendSample("_count", text, static_cast<double>(sum));
  page_.text_.push_back('\n');
}

void MetricsFamily::AppendExemplar(std::span<const Exemplar> exemplars,
                                   int first, int last) {
  if (page_.format_ != MetricsFormat::kOpenMetrics) return;
  for (const Exemplar& exemplar : exemplars) {
    if (exemplar.bucket < first || exemplar.bucket > last) continue;
    char trace[33];
    std::snprintf(trace, sizeof(trace), "%016" PRIx64 "%016" PRIx64,
                  exemplar.trace_high, exemplar.trace_low);
    char when[32];
    std::snprintf(
        when, sizeof(when), " %.3f",
        page_.monotonic_epoch_ + ToSeconds(exemplar.at.time_since_epoch()));
    std::string& text = page_.text_;
    Append({" # {trace_id=\"", trace, "\"} "}, &text);
    AppendNumber(ToSeconds(exemplar.value), &text);
    text.append(when);
    return;
  }
}

}  // namespace hotline::server
