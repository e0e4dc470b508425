// A connected socket under Asio's eyes. For .cc files: it drags in Asio.
#ifndef HOTLINE_NET_SOCKET_IO_H_
#define HOTLINE_NET_SOCKET_IO_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>

namespace hotline::net {

// Asio only tells when the descriptor is ready; reading and writing is done by
// plain system calls, so that no buffer is tied to a waiting connection.
struct SocketIo {
  // Bound to io_context itself: a type-erased executor costs on every event.
  using Descriptor = boost::asio::posix::basic_stream_descriptor<
      boost::asio::io_context::executor_type>;

  explicit SocketIo(boost::asio::io_context& io) : descriptor(io) {}

  Descriptor descriptor;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_SOCKET_IO_H_
