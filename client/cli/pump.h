// Joins a tunnel with descriptors.
#ifndef HOTLINE_CLIENT_CLI_PUMP_H_
#define HOTLINE_CLIENT_CLI_PUMP_H_

#include <string_view>
#include <thread>

#include "client/tunnel.h"

namespace hotline::client {

// Copies from a descriptor into a tunnel, in a thread of its own, until the
// input or the tunnel ends or this object is destroyed.
class Feeder {
 public:
  Feeder(int fd, Tunnel* tunnel);
  ~Feeder();
  Feeder(const Feeder&) = delete;
  Feeder& operator=(const Feeder&) = delete;

 private:
  void Run();

  const int fd_;
  Tunnel* const tunnel_;
  const int stop_;
  std::thread thread_;
};

// Copies until the upstream has ended its side. False: the output failed.
// `escaped`: in a form that a terminal does not interpret.
bool CopyOut(Tunnel* tunnel, int out_fd, bool escaped);

// Signals end of file to the reader of our output. The descriptor's number
// stays in use, so that no other file gets it.
void EndOutput(int fd);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_PUMP_H_
