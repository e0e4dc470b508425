// What gRPC and protobuf would write to standard error themselves comes through
// our log: escaped and limited. For the command alone: the client library does
// not touch the logs of its process.
#ifndef HOTLINE_CLIENT_CLI_LIBRARY_LOG_H_
#define HOTLINE_CLIENT_CLI_LIBRARY_LOG_H_

namespace hotline::client {

// Once, before gRPC is used.
void TakeLibraryLogs();

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_LIBRARY_LOG_H_
