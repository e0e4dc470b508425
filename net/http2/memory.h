// Memory for an nghttp2 session. For the HTTP/2 codec and its test.
#ifndef HOTLINE_NET_HTTP2_MEMORY_H_
#define HOTLINE_NET_HTTP2_MEMORY_H_

#include <nghttp2/nghttp2.h>

#include <cstddef>

#include "base/pages.h"

namespace hotline::net {

// A session keeps one buffer for the frame that it writes, 16 KiB of it, for as
// long as it lives. Here that buffer has pages of its own, so that an idle
// session's can go back to the system: only what is written again takes memory
// again. All else comes from malloc.
//
// One for each session, which it must outlive; not thread-safe.
class Http2Memory {
 public:
  Http2Memory();
  Http2Memory(const Http2Memory&) = delete;
  Http2Memory& operator=(const Http2Memory&) = delete;

  // For nghttp2_session_client_new3.
  nghttp2_mem* functions() { return &functions_; }

  // Only while the session has written all it had: what is in the buffer is
  // lost.
  void GiveBack() { frame_.GiveBack(); }

  // Of the frame buffer, what is in memory now.
  size_t resident_bytes() const { return frame_.resident_bytes(); }

 private:
  void* Allocate(size_t bytes);
  void* Reallocate(void* old, size_t bytes);
  void Free(void* memory);

  nghttp2_mem functions_;
  Pages frame_;  // The buffer's.
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_MEMORY_H_
