// What becomes of the records of calls: lines of the access log, and spans.
//
//   settings.observer = MakeCallReports(access_log, tracing, &exporter);
//
// Of each call at most one line "call" at the level info, whatever the log's
// level:
//
//   info call rpc=Execute target=https://a.test:443 method=GET path=/x
//   status=200 code=OK attempts=1 connection=7 reused=true total=0.0012s ...
//
// Fields without a value are left out. A line has no header, query or body.
#ifndef HOTLINE_SERVER_OBSERVE_CALL_REPORTS_H_
#define HOTLINE_SERVER_OBSERVE_CALL_REPORTS_H_

#include <memory>

#include "server/broker/call_record.h"
#include "server/observe/options.h"
#include "server/observe/span_exporter.h"

namespace hotline::server {

// Null if both are off. The exporter must outlive the observer.
std::shared_ptr<const CallObserver> MakeCallReports(
    const AccessLogOptions& access_log, const TracingOptions& tracing,
    SpanExporter* exporter);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_CALL_REPORTS_H_
