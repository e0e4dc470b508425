// Redirects the messages of gRPC and protobuf from standard error to our log:
// in its format, rate-limited, and without waiting for its reader.
#ifndef HOTLINE_BASE_LIBRARY_LOG_LIBRARY_LOG_H_
#define HOTLINE_BASE_LIBRARY_LOG_LIBRARY_LOG_H_

namespace hotline {

// To be called once, before gRPC is used.
void TakeLibraryLogs();

}  // namespace hotline

#endif  // HOTLINE_BASE_LIBRARY_LOG_LIBRARY_LOG_H_
