#include "client/cli/read_stats.h"

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>

#include "base/time.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

// Rows per page, the broker's maximum; and the maximum of pages, in case rows
// appear faster than they are read.
constexpr int kPageSize = 1000;
constexpr int kMaxPages = 1000;

// By a text or by a figure; the other is null.
template <typename Row>
struct Key {
  const char* name;
  const std::string& (*text)(const Row& row);
  double (*figure)(const Row& row);
};

double Of(const google::protobuf::Duration& duration) {
  return ToSeconds(FromProto(duration));
}

using Target = v1::TargetStats;
constexpr Key<Target> kTargetKeys[] = {
    {"target", [](const Target& t) -> const std::string& { return t.target(); },
     nullptr},
    {"connections", nullptr,
     [](const Target& t) { return double(OpenConnections(t.connections())); }},
    {"idle", nullptr,
     [](const Target& t) { return double(t.connections().idle()); }},
    {"leased", nullptr,
     [](const Target& t) { return double(t.connections().leased()); }},
    {"waiters", nullptr, [](const Target& t) { return double(t.waiters()); }},
    {"oldest-wait", nullptr,
     [](const Target& t) { return Of(t.oldest_wait()); }},
    {"acquires", nullptr,
     [](const Target& t) { return double(t.counters().acquires()); }},
    {"failed", nullptr,
     [](const Target& t) { return double(t.counters().acquire_failures()); }},
    {"p99", nullptr,
     [](const Target& t) { return Of(t.acquire_wait().p99()); }},
};

using Connection = v1::ConnectionStats;
constexpr Key<Connection> kConnectionKeys[] = {
    {"target",
     [](const Connection& c) -> const std::string& { return c.target(); },
     nullptr},
    {"id", nullptr,
     [](const Connection& c) { return double(c.connection_id()); }},
    {"active", nullptr, [](const Connection& c) { return double(c.active()); }},
    {"uses", nullptr, [](const Connection& c) { return double(c.uses()); }},
    {"errors", nullptr, [](const Connection& c) { return double(c.errors()); }},
    {"age", nullptr, [](const Connection& c) { return Of(c.age()); }},
    {"idle", nullptr, [](const Connection& c) { return Of(c.idle()); }},
};

using LeaseRow = v1::LeaseStats;
constexpr Key<LeaseRow> kLeaseKeys[] = {
    {"target",
     [](const LeaseRow& l) -> const std::string& { return l.target(); },
     nullptr},
    {"client",
     [](const LeaseRow& l) -> const std::string& {
       return l.holder().client_id();
     },
     nullptr},
    {"age", nullptr, [](const LeaseRow& l) { return Of(l.age()); }},
    {"remaining", nullptr, [](const LeaseRow& l) { return Of(l.remaining()); }},
};

template <typename Keys>
std::vector<std::string> NamesOf(const Keys& keys) {
  std::vector<std::string> names;
  for (const auto& key : keys) names.push_back(key.name);
  return names;
}

template <typename Row, size_t kSize>
void Sort(const Key<Row> (&keys)[kSize], const std::string& name,
          google::protobuf::RepeatedPtrField<Row>* rows) {
  const auto key = std::find_if(
      std::begin(keys), std::end(keys),
      [&](const Key<Row>& candidate) { return candidate.name == name; });
  assert(key != std::end(keys));
  std::stable_sort(rows->pointer_begin(), rows->pointer_end(),
                   [&](const Row* a, const Row* b) {
                     return key->text != nullptr
                                ? key->text(*a) < key->text(*b)
                                : key->figure(*a) > key->figure(*b);
                   });
}

}  // namespace

absl::StatusOr<v1::StatsResponse> ReadStats(BrokerClient& client,
                                            v1::StatsRequest request,
                                            CallOptions call) {
  v1::StatsResponse all;
  request.set_page_size(kPageSize);
  const Instant start = MonotonicNow();
  const std::optional<Duration> timeout = call.timeout;
  for (int page = 0; page < kMaxPages; ++page) {
    if (timeout.has_value()) {
      call.timeout = *timeout - (MonotonicNow() - start);
    }
    auto answer = client.Stats(request, call);
    if (!answer.ok()) return answer.status();
    const std::string next = answer->next_page_token();
    if (page == 0) {
      all = *std::move(answer);
      all.clear_next_page_token();
    } else {
      all.mutable_targets()->MergeFrom(answer->targets());
      all.mutable_connections()->MergeFrom(answer->connections());
      all.mutable_leases()->MergeFrom(answer->leases());
    }
    if (next.empty()) return all;
    request.set_page_token(next);
  }
  return absl::OutOfRangeError("the list is too long to be read");
}

int64_t OpenConnections(const v1::ConnectionCounts& counts) {
  return counts.dialing() + counts.idle() + counts.leased() + counts.probing() +
         counts.draining();
}

std::vector<std::string> SortKeys(v1::StatsView view) {
  switch (view) {
    case v1::STATS_VIEW_SUMMARY:
      return {};
    case v1::STATS_VIEW_CONNECTIONS:
      return NamesOf(kConnectionKeys);
    case v1::STATS_VIEW_LEASES:
      return NamesOf(kLeaseKeys);
    default:
      return NamesOf(kTargetKeys);
  }
}

void SortRows(v1::StatsView view, const std::string& key,
              v1::StatsResponse* stats) {
  switch (view) {
    case v1::STATS_VIEW_SUMMARY:
      return;
    case v1::STATS_VIEW_CONNECTIONS:
      return Sort(kConnectionKeys, key, stats->mutable_connections());
    case v1::STATS_VIEW_LEASES:
      return Sort(kLeaseKeys, key, stats->mutable_leases());
    default:
      return Sort(kTargetKeys, key, stats->mutable_targets());
  }
}

}  // namespace hotline::client
