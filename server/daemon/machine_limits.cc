#include "server/daemon/machine_limits.h"

#include <sys/resource.h>

#include <algorithm>

#include "server/broker/overload.h"

namespace hotline::server {
namespace {

int64_t MemoryLimit(const Settings& settings) {
  const int64_t configured = settings.broker.overload.max_memory_bytes;
  // The cgroup also counts memory that the process does not see as its own,
  // such as the kernel's socket buffers: a quarter is left for that.
  return configured > 0 ? configured : CgroupMemoryLimit() / 4 * 3;
}

// A descriptor for each caller's connection, of those that are left over.
int MaxCallers(const Settings& settings) {
  constexpr int kReserved = 64;  // Listeners, loops, files.
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
  const int admin =
      settings.admin.address.empty() ? 0 : settings.admin.max_connections;
  const int64_t left = static_cast<int64_t>(limit.rlim_cur) -
                       settings.pool.max_connections - admin - kReserved;
  return static_cast<int>(std::clamp<int64_t>(left, 8, 1'000'000));
}

}  // namespace

BrokerSettings BrokerSettingsFor(const Settings& settings) {
  BrokerSettings out = settings.broker;
  const int64_t memory = MemoryLimit(settings);
  out.overload.max_memory_bytes = memory;
  if (out.max_answer_bytes == 0 && memory > 0) {
    // At least one answer of the largest size must fit.
    out.max_answer_bytes = std::max(memory / 4, 2 * out.max_body_bytes);
  }
  return out;
}

FrontOptions FrontOptionsFor(const Settings& settings) {
  FrontOptions out = settings.front;
  if (out.door.max_connections == 0) {
    out.door.max_connections = MaxCallers(settings);
  }
  out.max_message_bytes = MemoryLimit(settings) / 4;
  return out;
}

}  // namespace hotline::server
