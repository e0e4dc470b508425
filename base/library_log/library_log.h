// What gRPC and protobuf would write to standard error themselves comes through
// our log: in its format, limited, and without waiting for a reader.
#ifndef HOTLINE_BASE_LIBRARY_LOG_LIBRARY_LOG_H_
#define HOTLINE_BASE_LIBRARY_LOG_LIBRARY_LOG_H_

namespace hotline {

// Once, before gRPC is used.
void TakeLibraryLogs();

}  // namespace hotline

#endif  // HOTLINE_BASE_LIBRARY_LOG_LIBRARY_LOG_H_
