#include "server/admin/forecast.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "server/admin/explain_facts.h"
#include "server/broker/policy.h"

namespace hotline::server {
namespace {

constexpr size_t kMostTargets = 1000;

// What the snapshot has of one target.
struct Load {
  const pool::TargetRow* row = nullptr;
  std::vector<const pool::ConnectionRow*> connections;
  std::vector<const pool::LeaseRow*> leases;
};

// How one configuration treats a load.
struct Treatment {
  int excess = 0;  // Connections above the limit.
  int dials = 0;
  int waiting = 0;      // Of the callers that hold a slot or wait for one.
  int turned_away = 0;  // Of those: the queue has no room for them.
};

int Count(const pool::TargetRow& row, pool::ConnState state) {
  return row.connections[static_cast<int>(state)];
}

// Slots of each connection, at least 1.
int SlotsEach(const Load& load, const pool::TargetConfig& config) {
  int slots = 1;
  for (const pool::ConnectionRow* row : load.connections) {
    if (row->key.mode == pool::Mode::kExclusive) continue;
    slots = std::max(slots, std::min(row->limit, config.max_streams));
  }
  return slots;
}

Treatment Treat(const Load& load, const pool::TargetConfig& config) {
  const pool::TargetRow& row = *load.row;
  const int ready = Count(row, pool::ConnState::kReady) +
                    Count(row, pool::ConnState::kProbing);
  const int dialing = Count(row, pool::ConnState::kDialing);
  const int slots = SlotsEach(load, config);
  Treatment out;
  out.excess = std::max(0, ready + dialing - config.max_connections);
  const int standing = ready - std::min(out.excess, row.idle);
  const int floor = config.warm_max > config.warm
                        ? std::clamp(row.floor, config.warm, config.warm_max)
                        : config.warm;
  const int for_waiters = (row.waiters + slots - 1) / slots;
  const int wanted = std::max(for_waiters, floor - standing) - dialing;
  const int room = config.max_connections - standing - dialing;
  if (row.admission == pool::Admission::kOpen) {
    out.dials = std::max(0, std::min(wanted, room));
  }
  const int callers = row.leases + row.waiters;
  out.waiting = std::max(0, callers - config.max_connections * slots);
  out.turned_away = std::max(0, out.waiting - config.max_waiters);
  return out;
}

class Forecaster {
 public:
  Forecaster(const ForecastInput& input, v1::UpdateConfigResponse* out)
      : in_(input), out_(*out->mutable_consequences()) {}

  void Run() {
    v1::Consequence* const broker = out_.Add();
    for (const auto& [target, load] : Loads()) {
      v1::Consequence one;
      one.set_target(ToUtf8(target));
      Judge(target, load, &one);
      closed_ += one.closed();
      dialled_ += one.dialled();
      if (!IsAffected(one)) continue;
      if (out_.size() <= static_cast<int>(kMostTargets)) {
        *out_.Add() = std::move(one);
      } else {
        ++more_;
      }
    }
    JudgeBroker(broker);
    if (!IsAffected(*broker)) out_.DeleteSubrange(0, 1);
  }

 private:
  static bool IsAffected(const v1::Consequence& one) {
    return one.closed() + one.closed_when_free() + one.dialled() +
               one.queued() + one.refused() + one.notes_size() >
           0;
  }

  std::map<std::string, Load> Loads() const;
  void Judge(const std::string& target, const Load& load,
             v1::Consequence* out) const;
  void JudgeLimits(const std::string& target, const Load& load,
                   v1::Consequence* out) const;
  void JudgePolicy(const Load& load, v1::Consequence* out) const;
  void JudgeEgress(const std::string& target, v1::Consequence* out) const;
  void JudgeDials(const std::string& target, const Load& load,
                  v1::Consequence* out) const;
  void JudgeBroker(v1::Consequence* out) const;
  bool Allows(const Settings& settings, const pool::LeaseRow& lease) const;
  std::vector<std::string> ProfilesOf(const Settings& settings,
                                      const std::string& target) const;

  const ForecastInput& in_;
  google::protobuf::RepeatedPtrField<v1::Consequence>& out_;
  // Of all targets.
  int closed_ = 0;
  int dialled_ = 0;
  int more_ = 0;  // Targets that are left out.
};

std::map<std::string, Load> Forecaster::Loads() const {
  std::map<std::string, Load> loads;
  for (const pool::TargetRow& row : in_.snapshot.targets) {
    loads[row.target].row = &row;
  }
  for (const pool::ConnectionRow& row : in_.snapshot.connections) {
    loads[row.key.target].connections.push_back(&row);
  }
  for (const pool::LeaseRow& row : in_.snapshot.leases) {
    loads[row.target].leases.push_back(&row);
  }
  // Targets that become known by their warm floor.
  for (const auto& [target, settings] : in_.after.targets) {
    if (settings.pool.warm > 0) loads[target];
  }
  return loads;
}

void Forecaster::Judge(const std::string& target, const Load& load,
                       v1::Consequence* out) const {
  if (load.row == nullptr) {
    if (!load.connections.empty() || !load.leases.empty()) return;  // It came.
    const pool::TargetConfig config = in_.after.PoolFor(target);
    out->set_dialled(std::min(config.warm, config.max_connections));
    out->add_notes(
        absl::StrCat(CountOf(out->dialled(), "warm connection"), " dialled"));
    return;
  }
  JudgeLimits(target, load, out);
  JudgePolicy(load, out);
  JudgeEgress(target, out);
  JudgeDials(target, load, out);
}

void Forecaster::JudgeLimits(const std::string& target, const Load& load,
                             v1::Consequence* out) const {
  const pool::TargetConfig old = in_.before.PoolFor(target);
  const pool::TargetConfig now = in_.after.PoolFor(target);
  if (old == now) return;
  const Treatment was = Treat(load, old);
  const Treatment is = Treat(load, now);
  if (is.excess > was.excess) {
    out->set_closed(std::min(is.excess, load.row->idle));
    out->set_closed_when_free(is.excess - out->closed());
    out->add_notes(absl::StrCat(
        "max_connections ", old.max_connections, " -> ", now.max_connections,
        ": ", CountOf(out->closed(), "idle connection"), " closed, ",
        out->closed_when_free(), " in use closed when free"));
  }
  if (is.dials > was.dials) {
    out->set_dialled(is.dials - was.dials);
    out->add_notes(absl::StrCat(CountOf(out->dialled(), "connection"),
                                " dialled, ", now.warm, " to be kept warm, ",
                                CountOf(load.row->waiters, "caller"),
                                " waiting"));
  }
  if (is.waiting > was.waiting) {
    out->set_queued(is.waiting);
    out->add_notes(
        absl::StrCat(is.waiting, " of ",
                     CountOf(load.row->leases + load.row->waiters, "caller"),
                     " would wait for a connection"));
  }
  if (is.turned_away > was.turned_away) {
    out->set_refused(is.turned_away);
    out->add_notes(absl::StrCat(is.turned_away,
                                " of them would be refused with QUEUE_FULL: "
                                "max_waiters is ",
                                now.max_waiters));
  }
  const auto idle = std::count_if(
      load.connections.begin(), load.connections.end(),
      [&](const pool::ConnectionRow* row) {
        return row->idle.has_value() && *row->idle >= now.idle_timeout &&
               *row->idle < old.idle_timeout;
      });
  if (idle > 0) {
    out->add_notes(absl::StrCat(CountOf(idle, "connection"),
                                " idle for longer than the new ",
                                "idle_timeout: closed soon, unless kept warm"));
  }
}

bool Forecaster::Allows(const Settings& settings,
                        const pool::LeaseRow& lease) const {
  const Policy* const policy = settings.broker.policy.get();
  if (policy == nullptr) return true;
  const std::string name =
      lease.owner == 0 ? std::string() : in_.owner_name(lease.owner);
  const auto may = [&](RpcMethod rpc) {
    return policy->Decide(name, rpc, lease.target).allowed;
  };
  // A slot of Acquire has a time to live; that of a single call has none.
  if (lease.remaining.has_value()) return may(RpcMethod::kAcquire);
  return may(RpcMethod::kExecute) || may(RpcMethod::kExecuteStream) ||
         may(RpcMethod::kTunnel) || may(RpcMethod::kAcquire);
}

void Forecaster::JudgePolicy(const Load& load, v1::Consequence* out) const {
  if (in_.before.policy == in_.after.policy) return;
  const auto refused = std::count_if(
      load.leases.begin(), load.leases.end(), [&](const pool::LeaseRow* lease) {
        return Allows(in_.before, *lease) && !Allows(in_.after, *lease);
      });
  if (refused == 0) return;
  out->set_refused(out->refused() + static_cast<int>(refused));
  out->add_notes(absl::StrCat(
      CountOf(refused, "caller"),
      " that hold a slot would be refused with NOT_AUTHORIZED or NO_IDENTITY; "
      "what they hold stays until it is released"));
}

void Forecaster::JudgeEgress(const std::string& target,
                             v1::Consequence* out) const {
  const upstream::EgressRules& rules = in_.after.upstream.egress;
  // The addresses of a target behind a proxy are the proxy's.
  if (rules == in_.before.upstream.egress ||
      !in_.after.ForTarget(target).upstream.proxy.empty()) {
    return;
  }
  int denied = 0;
  int connections = 0;
  std::string rule;
  const std::vector<upstream::AddressRow> rows = in_.addresses(target);
  for (const upstream::AddressRow& row : rows) {
    std::string one =
        upstream::Upstream::EgressDenial(rules, target, row.address);
    if (one.empty() || row.state == upstream::AddressState::kDenied) continue;
    ++denied;
    connections += row.connections;
    rule = std::move(one);
  }
  if (denied == 0) return;
  out->add_notes(
      absl::StrCat("egress would deny ", denied, " of ",
                   CountOf(static_cast<int64_t>(rows.size()), "address"), " (",
                   rule, "): ", CountOf(connections, "open connection"),
                   " there stays until it is closed; new dials are refused"));
}

std::vector<std::string> Forecaster::ProfilesOf(
    const Settings& settings, const std::string& target) const {
  if (target.starts_with("http:") || target.starts_with("tcp:")) return {};
  std::vector<std::string> names =
      settings.ForTarget(target).upstream.tls_profiles;
  if (names.empty()) names = {settings.upstream.tls_profile};
  return names;
}

void Forecaster::JudgeDials(const std::string& target, const Load& load,
                            v1::Consequence* out) const {
  const auto open =
      std::count_if(load.connections.begin(), load.connections.end(),
                    [](const pool::ConnectionRow* row) {
                      return row->state == pool::ConnState::kReady ||
                             row->state == pool::ConnState::kProbing;
                    });
  if (open <= out->closed()) return;
  const upstream::TargetPolicy& old = in_.before.ForTarget(target).upstream;
  const upstream::TargetPolicy& now = in_.after.ForTarget(target).upstream;
  std::vector<std::string> names = ProfilesOf(in_.after, target);
  bool tls = names != ProfilesOf(in_.before, target) ||
             (!names.empty() &&
              in_.before.upstream.ca_file != in_.after.upstream.ca_file);
  const auto definition = [](const Settings& settings,
                             const std::string& name) {
    const auto& all = settings.upstream.tls_profiles;
    const auto found =
        std::find_if(all.begin(), all.end(),
                     [&](const net::TlsProfile& p) { return p.name == name; });
    return found == all.end() ? net::TlsProfile() : *found;
  };
  for (const std::string& name : names) {
    tls = tls || definition(in_.before, name) != definition(in_.after, name);
  }
  std::vector<std::string> changed;
  if (tls) changed.push_back("TLS profile");
  if (old.proxy != now.proxy) changed.push_back("proxy");
  if (old.validate != now.validate) changed.push_back("validate");
  if (changed.empty()) return;
  out->add_notes(
      absl::StrCat(CountOf(open - out->closed(), "open connection"),
                   " made with the previous ", absl::StrJoin(changed, " and "),
                   " stay in use: `hotline reconnect` replaces them"));
}

void Forecaster::JudgeBroker(v1::Consequence* out) const {
  const Settings& now = in_.after;
  int idle = 0;
  for (const pool::TargetRow& row : in_.snapshot.targets) idle += row.idle;
  const int used = in_.snapshot.connections_reserved - closed_;
  const int excess = used - now.pool.max_connections;
  if (excess > 0 &&
      now.pool.max_connections < in_.before.pool.max_connections) {
    out->set_closed(std::min(excess, idle - closed_));
    out->set_closed_when_free(excess - out->closed());
    out->add_notes(absl::StrCat(
        "pool.max_connections ", in_.before.pool.max_connections, " -> ",
        now.pool.max_connections, " with ", used, " in use: ",
        CountOf(out->closed(), "idle connection"), " closed, of any target"));
  } else if (dialled_ > 0 && used + dialled_ > now.pool.max_connections) {
    out->add_notes(absl::StrCat(
        "pool.max_connections has room for ", std::max(0, -excess), " of ",
        CountOf(dialled_, "connection"), " to be dialled"));
  }
  const int most = now.broker.overload.max_calls;
  if (most > 0 && most != in_.before.broker.overload.max_calls &&
      in_.calls > most) {
    out->set_refused(in_.calls - most);
    out->add_notes(absl::StrCat("overload.max_calls is ", most, " with ",
                                CountOf(in_.calls, "call"),
                                " under way: OVERLOADED"));
  }
  const auto targets = static_cast<int>(in_.snapshot.targets.size());
  if (targets > now.pool.max_targets) {
    out->add_notes(
        absl::StrCat("pool.max_targets is ", now.pool.max_targets, " with ",
                     CountOf(targets, "target"),
                     " known: new ones are refused with TOO_MANY_TARGETS"));
  }
  if (more_ > 0) {
    out->add_notes(absl::StrCat(CountOf(more_, "more target"), " affected"));
  }
}

}  // namespace

void Forecast(const ForecastInput& input, v1::UpdateConfigResponse* out) {
  Forecaster(input, out).Run();
}

}  // namespace hotline::server
