#include "server/config/rules.h"

#include <limits>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "server/config/values.h"

namespace hotline::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int64_t kMillion = 1'000'000;
constexpr int64_t kMaxId = std::numeric_limits<uint32_t>::max() - 1;

constexpr NumberRule kNumbers[] = {
    {"listen.allowed_uids", 0, kMaxId, std::nullopt},
    {"listen.allowed_gids", 0, kMaxId, std::nullopt},
    {"listen.max_connections", 0, kMillion, 0},
    {"listen.max_connections_per_peer", 0, kMillion, 0},
    {"listen.max_resets_per_second", 10, kMillion, 1000},
    {"policy.rules.max_leases", 0, kMillion, 0},
    {"policy.rules.max_waiters", 0, kMillion, 0},
    {"policy.rules.requests_per_second", 0, kMillion, 0},
    {"overload.max_memory_bytes", 0, int64_t{1} << 40, 0},
    {"overload.max_calls", 1, kMillion, 10'000},
    {"overload.max_answer_bytes", 0, int64_t{1} << 40, 0},
    {"pool.max_connections", 1, kMillion, 100},
    {"pool.max_connections_per_target", 1, kMillion, 10},
    {"pool.max_waiters_per_target", 0, kMillion, 1024},
    {"pool.max_dials_per_target", 1, kMillion, 4},
    {"pool.max_dials", 1, kMillion, 64},
    {"pool.max_targets", 1, 10 * kMillion, 131072},
    {"pool.shards", 0, 65536, 0},
    {"pool.max_errors", 0, kMillion, 10},
    {"pool.max_streams_per_connection", 1, 1000, 128},
    {"pool.breaker_failures", 0, kMillion, 10},
    {"pool.desync_limit", 0, kMillion, 3},
    {"upstream.loops", 0, 1024, 0},
    {"upstream.max_header_bytes", 1024, 1 << 20, 65536},
    {"upstream.max_tls_sessions", 0, kMillion, 1024},
    {"upstream.eject_after", 1, 1000, 5},
    {"execute.max_body_bytes", 1, 3 << 20, 3 << 20},
    {"execute.max_attempts", 1, 10, 3},
    {"execute.retry_budget_percent", 0, 100, 20},
    {"session.max_items_per_message", 1, 65536, 1024},
    {"session.max_items_in_flight", 1, 65536, 1024},
    {"session.max_leases", 1, kMillion, 1024},
    {"session.max_buffered_bytes", 65536, 1 << 30, 32 << 20},
    {"targets.max_connections", 1, kMillion, std::nullopt},
    {"targets.max_waiters", 0, kMillion, std::nullopt},
    {"targets.warm", 0, kMillion, 0},
    {"targets.warm_max", 0, kMillion, 0},
    {"targets.desync_limit", 0, kMillion, std::nullopt},
    {"targets.breaker_failures", 0, kMillion, std::nullopt},
    {"targets.validate.min_status", 100, 599, 200},
    {"targets.validate.max_status", 100, 599, 399},
    {"targets.probe.min_status", 100, 599, std::nullopt},
    {"targets.probe.max_status", 100, 599, std::nullopt},
    {"targets.cool_down.statuses", 300, 599, std::nullopt},
    {"targets.probe.fall", 1, 100, 1},
    {"targets.probe.rise", 1, 100, 1},
    {"log.access_one_in", 1, kMillion, 100},
    {"tracing.new_trace_one_in", 0, kMillion, 0},
    {"metrics.max_targets", 1, 10'000, 100},
    {"rewarm.dials_per_second", 1, 10'000, 50},
};

constexpr DurationRule kDurations[] = {
    {"listen.handshake_timeout", milliseconds(100), seconds(300), seconds(3)},
    {"pool.idle_timeout", milliseconds(100), hours(24 * 365), seconds(45)},
    {"pool.max_lifetime", seconds(1), hours(24 * 365), seconds(300)},
    {"pool.check_interval", milliseconds(100), hours(24 * 365), seconds(30)},
    {"pool.probe_timeout", milliseconds(1), hours(1), seconds(10)},
    {"pool.lease_ttl", milliseconds(1), hours(24), seconds(30)},
    {"pool.max_lease_ttl", milliseconds(1), hours(24), seconds(600)},
    {"pool.leak_after", milliseconds(1), hours(24 * 365), seconds(60)},
    {"pool.breaker_open_for", milliseconds(10), hours(1), seconds(2)},
    {"targets.cool_down.length", seconds(1), hours(24), seconds(900)},
    {"targets.cool_down.max_length", seconds(1), hours(24), seconds(3600)},
    {"targets.breaker_open_for", milliseconds(10), hours(1), std::nullopt},
    {"upstream.connect_timeout", milliseconds(1), hours(1), seconds(30)},
    {"upstream.tcp_timeout", milliseconds(1), hours(1), seconds(5)},
    {"upstream.tls_timeout", milliseconds(1), hours(1), seconds(10)},
    {"upstream.ping_after", milliseconds(1), hours(1), seconds(20)},
    {"upstream.ping_timeout", milliseconds(1), hours(1), seconds(5)},
    {"upstream.tls_session_lifetime", seconds(1), hours(7 * 24), hours(2)},
    {"upstream.eject_base", milliseconds(100), hours(1), seconds(30)},
    {"upstream.eject_max", milliseconds(100), hours(24), seconds(300)},
    {"upstream.address_grace", seconds(0), hours(24), seconds(60)},
    {"upstream.attempt_stagger", milliseconds(10), seconds(10),
     milliseconds(250)},
    {"execute.default_deadline", milliseconds(1), hours(24), seconds(30)},
    {"tunnel.idle_timeout", milliseconds(100), hours(24), seconds(300)},
    {"rewarm.interval", seconds(1), hours(1), seconds(10)},
    {"rewarm.patience", seconds(0), seconds(600), seconds(30)},
    {"shutdown_grace", seconds(0), hours(1), seconds(20)},
};

std::span<const ChoiceRule> Choices() {
  static const auto* const rules = new std::vector<ChoiceRule>{
      {"egress.default", {"public", "none"}},
      {"policy.default", {"allow", "deny"}},
      {"targets.validate.method", {"HEAD", "GET", "OPTIONS"}},
      {"targets.probe.kind", {"http", "tcp", "none"}},
      {"tls_profiles.min_version", {"1.2", "1.3", "1.1", "1.0"}},
      {"tls_profiles.max_version", {"1.3", "1.2", "1.1", "1.0"}},
      {"log.level", {"info", "debug", "warning", "error"}},
      {"log.format", {"text", "json"}},
      {"log.access", {"none", "errors", "sampled"}},
  };
  return *rules;
}

template <typename Rules>
auto Find(const Rules& rules, std::string_view path) {
  for (const auto& rule : rules) {
    if (rule.path == path) return &rule;
  }
  return decltype(&*std::begin(rules)){nullptr};
}

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : absl::StrCat(path, ".", name);
}

class Applier {
 public:
  Applier(const ConfigSource& source, ConfigFaults* faults)
      : source_(source), faults_(faults) {}

  // `rule_path` is `path` without indices.
  void Apply(Message* message, const std::string& path,
             const std::string& rule_path) {
    const auto& type = *message->GetDescriptor();
    const Reflection& reflection = *message->GetReflection();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const std::string mine = Join(path, field.name());
      const std::string rule = Join(rule_path, field.name());
      if (field.is_repeated()) {
        if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
          CheckNumbers(*message, field, mine, rule);
        }
        if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
        for (int j = 0; j < reflection.FieldSize(*message, &field); ++j) {
          Apply(reflection.MutableRepeatedMessage(message, &field, j),
                absl::StrCat(mine, "[", j, "]"), rule);
        }
      } else if (IsDuration(field)) {
        ApplyDuration(message, field, mine, rule);
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        // Sections always exist; those of a target only if the file has them.
        if (path.empty() || reflection.HasField(*message, &field)) {
          Apply(reflection.MutableMessage(message, &field), mine, rule);
        }
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        ApplyChoice(message, field, mine, rule);
      } else if (field.cpp_type() != FieldDescriptor::CPPTYPE_BOOL) {
        ApplyNumber(message, field, mine, rule);
      }
    }
  }

 private:
  void CheckNumbers(const Message& message, const FieldDescriptor& field,
                    const std::string& path, const std::string& rule_path) {
    const auto* const rule = NumberRuleOf(rule_path);
    if (rule == nullptr) return;
    const Reflection& reflection = *message.GetReflection();
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      CheckNumber(absl::StrCat(path, "[", i, "]"), *rule,
                  reflection.GetRepeatedInt64(message, &field, i));
    }
  }

  bool CheckNumber(const std::string& path, const NumberRule& rule,
                   int64_t value) {
    if (value >= rule.least && value <= rule.most) return true;
    Add(path, absl::StrCat("must be ", rule.least, " to ", rule.most, ", not ",
                           value));
    return false;
  }

  void ApplyNumber(Message* message, const FieldDescriptor& field,
                   const std::string& path, const std::string& rule_path) {
    const auto* const rule = NumberRuleOf(rule_path);
    if (rule == nullptr) return;
    const Reflection& reflection = *message->GetReflection();
    const bool narrow = field.cpp_type() == FieldDescriptor::CPPTYPE_INT32;
    if (reflection.HasField(*message, &field) &&
        CheckNumber(path, *rule,
                    narrow ? reflection.GetInt32(*message, &field)
                           : reflection.GetInt64(*message, &field))) {
      return;
    }
    reflection.ClearField(message, &field);
    if (!rule->otherwise) return;
    if (narrow) {
      reflection.SetInt32(message, &field,
                          static_cast<int32_t>(*rule->otherwise));
    } else {
      reflection.SetInt64(message, &field, *rule->otherwise);
    }
  }

  void ApplyDuration(Message* message, const FieldDescriptor& field,
                     const std::string& path, const std::string& rule_path) {
    const auto* const rule = DurationRuleOf(rule_path);
    if (rule == nullptr) return;
    const Reflection& reflection = *message->GetReflection();
    if (reflection.HasField(*message, &field)) {
      const Duration value = GetDuration(*message, field);
      if (value >= rule->least && value <= rule->most) return;
      Add(path, absl::StrCat("must be ", FormatDuration(rule->least), " to ",
                             FormatDuration(rule->most), ", not ",
                             FormatDuration(value)));
    }
    reflection.ClearField(message, &field);
    if (rule->otherwise) SetDuration(message, field, *rule->otherwise);
  }

  void ApplyChoice(Message* message, const FieldDescriptor& field,
                   const std::string& path, const std::string& rule_path) {
    const ChoiceRule* const rule = ChoiceRuleOf(rule_path);
    if (rule == nullptr) return;
    const Reflection& reflection = *message->GetReflection();
    if (reflection.HasField(*message, &field)) {
      const std::string value = reflection.GetString(*message, &field);
      for (const std::string& choice : rule->choices) {
        if (value == choice) return;
      }
      Add(path,
          absl::StrCat("must be one of ", absl::StrJoin(rule->choices, ", "),
                       "; not ", Quoted(value.substr(0, 40))));
    }
    reflection.SetString(message, &field, rule->choices[0]);
  }

  // One for each key: that of its type was found before.
  void Add(const std::string& path, const std::string& text) {
    if (faults_->Touch(path)) return;
    faults_->Add(PlaceOf(source_.places, path), path, text);
  }

  const ConfigSource& source_;
  ConfigFaults* const faults_;
};

}  // namespace

void ApplyRules(v1::Config* config, const ConfigSource& source,
                ConfigFaults* faults) {
  Applier(source, faults).Apply(config, "", "");
}

const NumberRule* NumberRuleOf(std::string_view path) {
  return Find(kNumbers, path);
}
const DurationRule* DurationRuleOf(std::string_view path) {
  return Find(kDurations, path);
}
const ChoiceRule* ChoiceRuleOf(std::string_view path) {
  return Find(Choices(), path);
}

Place PlaceOf(const std::map<std::string, Place, std::less<>>& places,
              std::string_view path) {
  while (true) {
    const auto found = places.find(path);
    if (found != places.end()) return found->second;
    const size_t end = path.find_last_of(".[");
    if (end == std::string_view::npos) return {};
    path = path.substr(0, end);
  }
}

}  // namespace hotline::server
