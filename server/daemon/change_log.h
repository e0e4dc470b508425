// What a reload has changed, in the log.
#ifndef HOTLINE_SERVER_DAEMON_CHANGE_LOG_H_
#define HOTLINE_SERVER_DAEMON_CHANGE_LOG_H_

#include "server/config/config.h"

namespace hotline::server {

// Logs each key that differs, with its values as DiffConfigs shows them; of
// many, the first ones and how many there are.
void LogChanges(const Settings& before, const Settings& after);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_CHANGE_LOG_H_
