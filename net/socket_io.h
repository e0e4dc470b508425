// A socket registered with Asio. For .cc files only: it includes Asio.
#ifndef HOTLINE_NET_SOCKET_IO_H_
#define HOTLINE_NET_SOCKET_IO_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>

namespace hotline::net {

// Asio only reports readiness; reading and writing are plain system calls, so
// that a waiting connection ties up no buffer.
struct SocketIo {
  // Bound to io_context itself: a type-erased executor costs on every event.
  using Descriptor = boost::asio::posix::basic_stream_descriptor<
      boost::asio::io_context::executor_type>;

  explicit SocketIo(boost::asio::io_context& io) : descriptor(io) {}

  Descriptor descriptor;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_SOCKET_IO_H_
