// The limits that config.proto derives from the machine: a limit of 0 in
// Settings stands for them.
#ifndef HOTLINE_SERVER_DAEMON_MACHINE_LIMITS_H_
#define HOTLINE_SERVER_DAEMON_MACHINE_LIMITS_H_

#include "server/config/config.h"

namespace hotline::server {

// settings.broker with overload.max_memory_bytes (from the memory cgroup; still
// 0 without one) and max_answer_bytes (from max_memory_bytes).
BrokerSettings BrokerSettingsFor(const Settings& settings);

// settings.front with door.max_connections (from the limit on descriptors) and
// max_message_bytes (a quarter of max_memory_bytes).
FrontOptions FrontOptionsFor(const Settings& settings);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_MACHINE_LIMITS_H_
