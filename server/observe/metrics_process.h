// The standard process_* metrics of Prometheus clients.
// Part of metrics.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_PROCESS_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_PROCESS_H_

#include <vector>

namespace hotline::server {

struct ProcessFigure {
  const char* name;
  const char* help;
  bool counter;
  double value;
};

// Reads /proc; figures that cannot be read are left out.
std::vector<ProcessFigure> ReadProcessFigures();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_PROCESS_H_
