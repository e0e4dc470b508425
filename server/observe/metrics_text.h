// The text of /metrics: Prometheus' exposition format 0.0.4, or OpenMetrics
// 1.0, which has exemplars. Part of metrics.
//
//   MetricsPage page(MetricsFormat::kText);
//   MetricsFamily(&page, MetricType::kGauge, "hotline_calls", "Calls.")
//       .Value({}, 7);
//   return std::move(page).Finish();
//
// Not thread-safe.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_TEXT_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_TEXT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "base/time.h"
#include "server/broker/call_metrics.h"
#include "server/observe/metrics.h"

namespace hotline::server {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

// How the counts of a Histogram are shown.
struct HistogramScale {
  double unit = 1;      // Of a recorded second.
  bool coarse = false;  // Every second bucket only.
};

class MetricsPage {
 public:
  explicit MetricsPage(MetricsFormat format);

  // The whole text. Ends the page.
  std::string Finish() &&;

 private:
  friend class MetricsFamily;

  const MetricsFormat format_;
  const double monotonic_epoch_;  // In seconds since 1970.
  std::string text_;
};

// One family. Only the page's last one can be filled.
class MetricsFamily {
 public:
  using Label = std::pair<std::string_view, std::string_view>;
  using Labels = absl::Span<const Label>;

  // A counter's name ends in "_total". All must outlive the family.
  MetricsFamily(MetricsPage* page, MetricType type, std::string_view name,
                std::string_view help);

  // For a counter or gauge.
  void Value(Labels labels, double value);
  // For a histogram.
  void Counts(Labels labels, const HistogramCounts& counts,
              HistogramScale scale = {},
              std::span<const Exemplar> exemplars = {});

 private:
  void AppendSample(std::string_view suffix, std::string_view labels,
                    double value);
  void AppendExemplar(std::span<const Exemplar> exemplars, int first, int last);

  MetricsPage& page_;
  const std::string_view name_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_TEXT_H_
