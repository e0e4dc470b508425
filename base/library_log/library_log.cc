#include "base/library_log/library_log.h"

#include <string>

#include "base/log.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/support/log.h"

namespace hotline {
namespace {

void OnGrpc(gpr_log_func_args* args) {
  const LogLevel level =
      args->severity == GPR_LOG_SEVERITY_ERROR  ? LogLevel::kError
      : args->severity == GPR_LOG_SEVERITY_INFO ? LogLevel::kInfo
                                                : LogLevel::kDebug;
  WriteLibraryLog(level, "grpc", args->file, args->line, args->message);
}

void OnProtobuf(google::protobuf::LogLevel protobuf_level, const char* file,
                int line, const std::string& message) {
  const LogLevel level = protobuf_level >= google::protobuf::LOGLEVEL_ERROR
                             ? LogLevel::kError
                         : protobuf_level == google::protobuf::LOGLEVEL_WARNING
                             ? LogLevel::kWarning
                             : LogLevel::kInfo;
  WriteLibraryLog(level, "protobuf", file, line, message);
}

}  // namespace

void TakeLibraryLogs() {
  gpr_set_log_function(OnGrpc);
  google::protobuf::SetLogHandler(OnProtobuf);
}

}  // namespace hotline
