// Listening sockets that this process did not bind itself: those of the process
// that it replaces, or those that systemd has opened for it.
//
//   InheritedSockets inherited;
//   inherited.Add({.fd = fd, .role = "grpc", .address = "127.0.0.1:0"});
//   auto door = FrontDoor::Bind(options, {&inherited, "grpc"});
//
// Thread-compatible.
#ifndef HOTLINE_SERVER_FRONT_INHERITED_SOCKETS_H_
#define HOTLINE_SERVER_FRONT_INHERITED_SOCKETS_H_

#include <string>
#include <string_view>
#include <vector>

namespace hotline::server {

// A listening socket, and what it is for.
struct ListeningSocket {
  int fd = -1;
  // "grpc", "admin", "http", "takeover"; empty: whatever has its address.
  std::string role;
  // As configured, where the socket was bound. Empty: the address itself.
  std::string address;
  // Its file stays when it is closed: another program has made it.
  bool keeps_file = false;
};

class InheritedSockets {
 public:
  InheritedSockets() = default;
  InheritedSockets(InheritedSockets&& other) noexcept;
  InheritedSockets& operator=(InheritedSockets&&) = delete;
  // Closes the sockets that were not taken.
  ~InheritedSockets();

  // Takes the descriptor over. Fills in an empty address.
  void Add(ListeningSocket socket);

  // The socket for a configured address ("127.0.0.1:50051", "unix:///path"),
  // which passes to the caller; fd -1: there is none. With port 0 only one
  // whose address was configured in the same words.
  ListeningSocket Take(std::string_view role, const std::string& address);

  // Those that were not taken.
  const std::vector<ListeningSocket>& left() const { return sockets_; }

 private:
  std::vector<ListeningSocket> sockets_;
};

// Where a listener looks before it binds; by default nowhere.
struct Inherited {
  InheritedSockets* sockets = nullptr;
  std::string_view role;

  ListeningSocket Take(const std::string& address) const {
    return sockets == nullptr ? ListeningSocket()
                              : sockets->Take(role, address);
  }
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_INHERITED_SOCKETS_H_
