// Sends spans to a collector: OTLP over HTTP/1.1, in JSON.
//
//   SpanExporter exporter({.instance = "2f6a"});
//   exporter.SetCollector("http://127.0.0.1:4318/v1/traces");
//   if (exporter.MakeRoom()) exporter.Add(EncodeSpan(record, now));
//
// Spans wait in a bounded queue; those that do not fit are dropped and counted.
// A thread of the exporter's own, which exists once there is a collector, sends
// them in batches, one connection for each. A collector that cannot be reached,
// or answers 408, 429, 502, 503 or 504, gets the same batch again after a pause
// that grows from 1 to 30 s; another answer than 2xx loses the batch.
//
// The collector's address is the operator's choice, so egress rules do not
// apply to it.
//
// Thread safety: everything may be called from any thread. Only Stop and the
// destructor wait.
#ifndef HOTLINE_SERVER_OBSERVE_SPAN_EXPORTER_H_
#define HOTLINE_SERVER_OBSERVE_SPAN_EXPORTER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/time.h"

namespace hotline::server {

class SpanExporter {
 public:
  struct Options {
    std::string instance;  // Identifies the process.
    size_t max_queued_bytes = 4 << 20;
    // A batch is sent when it has this size or its first span this age.
    size_t batch_bytes = 256 << 10;
    Duration batch_interval = std::chrono::seconds(1);
    Duration timeout = std::chrono::seconds(5);  // Of each step of a request.
    Duration first_pause = std::chrono::seconds(1);
  };

  struct Counts {
    uint64_t sent = 0;
    uint64_t dropped = 0;  // They did not fit, or there was no collector left.
    uint64_t refused = 0;  // By the collector.
  };

  explicit SpanExporter(Options options);
  // Stops.
  ~SpanExporter();
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  // `url` is a valid http URL; empty: spans are dropped from now on, queued
  // ones included.
  void SetCollector(std::string_view url);

  // Whether the queue has room. If not, counts a span as dropped.
  bool MakeRoom();
  // `span` is encoded.
  void Add(std::string_view span);

  // Sends what is queued, for at most `bound`. Spans added later are dropped.
  void Stop(Duration bound = std::chrono::seconds(1));

  Counts counts() const;

 private:
  class Impl;
  // The thread keeps it, too: a name that is being resolved cannot be given up.
  const std::shared_ptr<Impl> impl_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_SPAN_EXPORTER_H_
