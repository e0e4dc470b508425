// What callers send, checked against what broker.proto says. Pure: no gRPC, no
// clock, no state. Every function answers with the first fault it finds, or
// nothing.
#ifndef HOTLINE_SERVER_BROKER_VALIDATE_H_
#define HOTLINE_SERVER_BROKER_VALIDATE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "base/url.h"
#include "google/protobuf/duration.pb.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/http_head.h"

namespace hotline::server {

// Everything but the lease ids; those are decoded where they are used.
std::optional<InputError> ValidateAcquire(const v1::AcquireRequest& request,
                                          ParsedTarget* target);

// `max_body_bytes` bounds the request's body, and what may be asked of the
// answer's.
std::optional<InputError> ValidateExecute(const v1::ExecuteRequest& request,
                                          int64_t max_body_bytes,
                                          ParsedUrl* url);

// What a tunnel is opened with; the target is filled where one is given.
std::optional<InputError> ValidateTunnel(const v1::TunnelOpen& open,
                                         ParsedTarget* target);

// Whether the upgrade fits to the tunnel's target (canonical), which may be its
// lease's; `url`, filled where there is one, is what is asked for.
std::optional<InputError> ValidateUpgrade(const v1::TunnelOpen& open,
                                          const std::string& target,
                                          ParsedUrl* url);

// Whether the options' TLS profile, if they name one, is one of `known`.
std::optional<InputError> ValidateTlsProfile(
    const v1::ConnectionOptions& options,
    const std::set<std::string, std::less<>>& known);

// The head of a streamed one.
std::optional<InputError> ValidateExecuteStream(
    const v1::ExecuteStreamHead& head, ParsedUrl* url);

// The target and the page token are left to who uses them.
std::optional<InputError> ValidateStats(const v1::StatsRequest& request);

// Whether `outcome` is one of the contract's (unknown numbers do arrive).
std::optional<InputError> ValidateOutcome(v1::Outcome outcome);

// A lease's time to live: a valid duration, longer than zero.
std::optional<InputError> ValidateTtl(const google::protobuf::Duration& ttl);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_VALIDATE_H_
