// What systemd gives to a service and wants to hear from it: sd_notify(3) and
// sd_listen_fds(3), without its library. Outside of systemd nothing happens.
//
// Thread safety: TakeSystemdSockets changes the environment, so it is for the
// start.
#ifndef HOTLINE_SERVER_DAEMON_SYSTEMD_H_
#define HOTLINE_SERVER_DAEMON_SYSTEMD_H_

#include <string>

#include "server/front/inherited_sockets.h"

namespace hotline::server {

// "READY=1", "STOPPING=1", "MAINPID=123"; several with line breaks between. A
// failure is logged.
void NotifySystemd(const std::string& state);

// Adds the sockets of a socket unit (LISTEN_FDS), and removes its variables
// from the environment, because they are not for the process's children.
void TakeSystemdSockets(InheritedSockets* sockets);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_SYSTEMD_H_
