// What gRPC and protobuf would write to standard error themselves comes through
// our log: in its format, limited, and without waiting for a reader.
#ifndef HOTLINE_SERVER_LIBRARY_LOG_H_
#define HOTLINE_SERVER_LIBRARY_LOG_H_

namespace hotline::server {

// Once, before gRPC is used.
void TakeLibraryLogs();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_LIBRARY_LOG_H_
