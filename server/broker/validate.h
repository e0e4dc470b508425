// Validates requests against the contract in broker.proto. Pure: no clock, no
// state. Every function returns the first fault that it finds, or nothing.
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

// Lease ids are not checked here; they are decoded where they are used.
std::optional<InputError> ValidateAcquire(const v1::AcquireRequest& request,
                                          ParsedTarget* target);

// `max_body_bytes` bounds the request's body and its max_response_bytes.
std::optional<InputError> ValidateExecute(const v1::ExecuteRequest& request,
                                          int64_t max_body_bytes,
                                          ParsedUrl* url);

// Fills `target` if the message has one.
std::optional<InputError> ValidateTunnel(const v1::TunnelOpen& open,
                                         ParsedTarget* target);

// Whether the upgrade fits the target (canonical) of the tunnel or of its
// lease. Fills the URL of the upgrade if there is one.
std::optional<InputError> ValidateUpgrade(const v1::TunnelOpen& open,
                                          const std::string& target,
                                          ParsedUrl* url);

// Whether the TLS profile of the options, if they name one, is in `known`.
std::optional<InputError> ValidateTlsProfile(
    const v1::ConnectionOptions& options,
    const std::set<std::string, std::less<>>& known);

std::optional<InputError> ValidateExecuteStream(
    const v1::ExecuteStreamHead& head, ParsedUrl* url);

// Target and page token are checked where they are used.
std::optional<InputError> ValidateStats(const v1::StatsRequest& request);

// Whether `outcome` is in the contract; unknown numbers do arrive.
std::optional<InputError> ValidateOutcome(v1::Outcome outcome);

// Fills `target` if the request names an Acquire instead of a lease. The lease
// id is checked where it is used.
std::optional<InputError> ValidateRelease(const v1::ReleaseRequest& request,
                                          ParsedTarget* target);

// A lease's time to live: a valid duration, longer than zero.
std::optional<InputError> ValidateTtl(const google::protobuf::Duration& ttl);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_VALIDATE_H_
