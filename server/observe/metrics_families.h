// The families that speak of targets, and how a family is filled. Part of
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

// A page of families, in the order in which they are shown.
using MetricsPage = std::vector<prometheus::MetricFamily>;

// One family being filled, at the end of a page. One at a time.
class MetricsFamily {
 public:
  using Labels =
      std::initializer_list<std::pair<const char*, std::string_view>>;

  MetricsFamily(MetricsPage* page, prometheus::MetricType type,
                const char* name, const char* help);

  // Of a counter or gauge.
  void Value(Labels labels, double value);
  // Of a histogram.
  void Counts(Labels labels, const HistogramCounts& counts);

 private:
  prometheus::ClientMetric& Add(Labels labels);

  prometheus::MetricFamily& family_;
};

// All families with the label `target`, one series or more for each row.
void AddTargetFamilies(std::span<const TargetFigures> targets,
                       MetricsPage* page);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_FAMILIES_H_
