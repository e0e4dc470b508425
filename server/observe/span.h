// Spans as OTLP's JSON, and the trace contexts that they come from. Pure, but
// for the random ids.
//
// A call is one span of kind SERVER, with the names of OpenTelemetry's semantic
// conventions and, for what is Hotline's own, "hotline.".
#ifndef HOTLINE_SERVER_OBSERVE_SPAN_H_
#define HOTLINE_SERVER_OBSERVE_SPAN_H_

#include <chrono>
#include <string>
#include <string_view>

#include "server/broker/call_record.h"

namespace hotline::server {

// In these, `traceparent` is valid (IsTraceparent).
bool IsSampled(std::string_view traceparent);
// A traceparent of the same trace with a new span.
std::string ChildOf(std::string_view traceparent);
// The same of a new trace.
std::string NewTrace();

// "OK", "UNAVAILABLE".
std::string_view CodeOf(const CallRecord& record);
// "NOT_SENT"; empty: the error has no verdict.
std::string_view VerdictOf(const Error& error);
// Of the call's span, or its caller's; empty without either.
std::string_view TraceIdOf(const CallRecord& record);

// An opentelemetry.proto.trace.v1.Span. REQUIRES: record.span is not empty.
// `now`: the time of day at record.ended.
std::string EncodeSpan(const CallRecord& record,
                       std::chrono::system_clock::time_point now);

// An ExportTraceServiceRequest of `spans`, which are separated by commas.
// `instance` identifies the process.
std::string EncodeRequest(std::string_view instance, std::string_view spans);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_SPAN_H_
