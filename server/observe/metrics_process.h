// What every Prometheus client tells of its process, under the usual names.
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

// Read from /proc; what cannot be read is left out.
std::vector<ProcessFigure> ReadProcessFigures();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_PROCESS_H_
