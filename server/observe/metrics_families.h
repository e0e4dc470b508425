// The families with the label `target`. Part of metrics.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_FAMILIES_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_FAMILIES_H_

#include <span>

#include "server/observe/metrics_targets.h"
#include "server/observe/metrics_text.h"

namespace hotline::server {

// Adds the families, with one or more series for each target.
void AddTargetFamilies(std::span<const TargetFigures> targets,
                       MetricsPage* page);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_FAMILIES_H_
