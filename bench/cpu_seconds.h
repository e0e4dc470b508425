// What this process has used of the processors.
#ifndef HOTLINE_BENCH_CPU_SECONDS_H_
#define HOTLINE_BENCH_CPU_SECONDS_H_

#include <sys/resource.h>

// In user and in system mode, in all its threads.
inline double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

#endif  // HOTLINE_BENCH_CPU_SECONDS_H_
