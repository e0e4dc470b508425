// conformance.proto's service, on the front's own calls.
#ifndef HOTLINE_TESTS_CONFORMANCE_SERVICE_H_
#define HOTLINE_TESTS_CONFORMANCE_SERVICE_H_

#include "server/front/server_call.h"

namespace hotline::conformance {

// A server::CallFactory.
server::ServerCall* NewCall(const server::CallOrigin& origin);

}  // namespace hotline::conformance

#endif  // HOTLINE_TESTS_CONFORMANCE_SERVICE_H_
