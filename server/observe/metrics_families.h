// The families with the label `target`, and how a family is filled. Part of
// metrics; the only header that shows prometheus-cpp.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_FAMILIES_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_FAMILIES_H_

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "prometheus/metric_family.h"
#include "server/broker/call_metrics.h"
#include "server/observe/metrics_targets.h"

namespace hotline::server {

// The families of a page, in order.
using MetricsPage = std::vector<prometheus::MetricFamily>;

// The last family of a page, while it is filled. One at a time.
class MetricsFamily {
 public:
  using Labels =
      std::initializer_list<std::pair<const char*, std::string_view>>;

  MetricsFamily(MetricsPage* page, prometheus::MetricType type,
                const char* name, const char* help);

  // For a counter or gauge.
  void Value(Labels labels, double value);
  // For a histogram.
  void Counts(Labels labels, const HistogramCounts& counts);

 private:
  prometheus::ClientMetric& Add(Labels labels);

  prometheus::MetricFamily& family_;
};

// Adds the families, with one or more series for each target.
void AddTargetFamilies(std::span<const TargetFigures> targets,
                       MetricsPage* page);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_FAMILIES_H_
