// WatchEvents on gRPC's library. It takes no thread while it waits: the other
// methods would soon have none left.
#ifndef HOTLINE_SERVER_ADMIN_WATCH_EVENTS_H_
#define HOTLINE_SERVER_ADMIN_WATCH_EVENTS_H_

#include <memory>

#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/event_watch.h"

namespace hotline::server {

using EventReactor = grpc::ServerWriteReactor<v1::WatchEventsResponse>;

// Serves a call until its watch or its caller ends it; deletes itself.
EventReactor* NewEventReactor(grpc::CallbackServerContext* context,
                              std::unique_ptr<EventWatch> watch);

// Ends a call at once.
EventReactor* NewFailedReactor(const grpc::Status& status);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_WATCH_EVENTS_H_
