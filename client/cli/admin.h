// Calls of hotline.v1.Admin, for the operators' commands.
#ifndef HOTLINE_CLIENT_CLI_ADMIN_H_
#define HOTLINE_CLIENT_CLI_ADMIN_H_

#include <grpcpp/client_context.h>

#include <memory>

#include "absl/status/statusor.h"
#include "client/channel.h"
#include "client/cli/command.h"
#include "client/status.h"
#include "hotline/v1/admin.grpc.pb.h"

namespace hotline::client {

// Makes one call at run.admin_address; it is not repeated.
template <typename Request, typename Response>
absl::StatusOr<Response> CallAdmin(
    const Run& run,
    grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                            const Request&, Response*),
    const Request& request) {
  BrokerClientOptions options;
  options.address = run.admin_address;
  if (absl::Status bad = CheckOptions(options); !bad.ok()) return bad;
  auto channel = MakeChannel(options);
  if (!channel.ok()) return channel.status();
  const auto stub = v1::Admin::NewStub(*channel);
  grpc::ClientContext context;
  Channel(options, *channel).Prepare(context, run.Call());
  Response response;
  const grpc::Status status =
      (stub.get()->*method)(&context, request, &response);
  if (status.ok()) return response;
  return MakeStatus(status.error_code(), status.error_message(),
                    status.error_details());
}

// Reports an error of such a call and returns its exit code.
int FailAdmin(const Run& run, const absl::Status& status);

// Parts of AddAdmin, in admin_control.cc.
void AddDrain(CLI::App& app, Run& run);
void AddControl(CLI::App& app, Run& run);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_ADMIN_H_
