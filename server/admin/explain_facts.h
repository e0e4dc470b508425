// The facts of an explanation, and words for numbers. Part of Explain.
#ifndef HOTLINE_SERVER_ADMIN_EXPLAIN_FACTS_H_
#define HOTLINE_SERVER_ADMIN_EXPLAIN_FACTS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"
#include "hotline/v1/admin.pb.h"
#include "pool/snapshot.h"
#include "server/admin/explain.h"

namespace hotline::server {

// `row`: of the target; its defaults if the target is unknown.
void AddFacts(const ExplainInput& input, const pool::TargetRow& row,
              v1::ExplainResponse* out);

// "250 ms", "12.3 s", "5 min".
std::string InWords(Duration length);

// "1 lease", "2 leases".
std::string CountOf(int64_t number, std::string_view noun);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_EXPLAIN_FACTS_H_
