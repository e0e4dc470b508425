// What the HTTP/2 sessions of one loop share, so that an idle one owns little
// and a busy one allocates little.
//
// nghttp2 keeps a buffer of 16 KiB in each session for the frame that it is
// writing. Here all sessions of a loop write into the same one: a session has
// no use for its contents between two calls of nghttp2_session_mem_send, since
// ServerSession copies what it gets at once.
//
// The table in which a session finds its streams has 4 KiB, all zero while
// there is no stream. It is a page of its own, which goes back to the system
// when the session has been idle.
#ifndef HOTLINE_NET_HTTP2_SERVER_MEMORY_H_
#define HOTLINE_NET_HTTP2_SERVER_MEMORY_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "base/pages.h"
#include "net/http2/output_buffer.h"
#include "net/http2/request_head.h"
#include "net/http2/server_stream.h"

namespace hotline::net {

// For one thread. Must outlive its sessions.
class ServerMemory {
 public:
  ServerMemory() : frame_(new char[kFrameBytes]) {}
  ServerMemory(const ServerMemory&) = delete;
  ServerMemory& operator=(const ServerMemory&) = delete;

  // An nghttp2 frame buffer asks for 16 394 bytes.
  static constexpr size_t kLeastFrameBytes = 16 << 10;
  static constexpr size_t kFrameBytes = 17 << 10;
  void* frame() { return frame_.get(); }

  static constexpr size_t kTableBytes = 4096;
  // Zeroed. Null: there is no memory.
  void* TakeTable();
  void GiveTable(void* table);
  // REQUIRES: all of it is zero, or not used any more.
  void TrimTable(void* table);

  std::unique_ptr<ServerStream> TakeStream();
  void Give(std::unique_ptr<ServerStream> stream);

  std::unique_ptr<RequestHeadReader> TakeHeadReader();
  void Give(std::unique_ptr<RequestHeadReader> reader);

  // Empty.
  OutputBuffer TakeOutput();
  void Give(OutputBuffer buffer);

 private:
  const std::unique_ptr<char[]> frame_;
  std::vector<std::unique_ptr<Pages>> tables_;
  std::vector<void*> free_tables_;
  std::vector<std::unique_ptr<ServerStream>> streams_;
  std::vector<std::unique_ptr<RequestHeadReader>> readers_;
  std::vector<OutputBuffer> outputs_;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_SERVER_MEMORY_H_
