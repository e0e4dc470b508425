// Between the configuration, the use cases, the front and its figures: plain
// translation.
#ifndef HOTLINE_SERVER_DAEMON_FRONT_OPTIONS_H_
#define HOTLINE_SERVER_DAEMON_FRONT_OPTIONS_H_

#include <cstdint>

#include "server/broker/broker.h"
#include "server/config/config.h"
#include "server/front/certificates.h"
#include "server/front/grpc_server.h"
#include "server/observe/metrics.h"

namespace hotline::server {

// What overload.max_memory_bytes comes to; 0: no limit.
int64_t MemoryLimitOf(const Settings& settings);

// What overload.max_answer_bytes comes to; 0: AnswerMemory's default.
int64_t AnswerLimitOf(const Settings& settings);

BrokerSettings BrokerSettingsOf(const Settings& settings);

// `certificates` may be null, and must outlive the server.
GrpcServerOptions GrpcOptionsOf(const Settings& settings,
                                const Certificates* certificates);

// For /metrics. `grpc` and `certificates` may be null. Thread-safe.
FrontFigures FiguresOf(const Broker& broker, const GrpcServer* grpc,
                       const Certificates* certificates);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_FRONT_OPTIONS_H_
