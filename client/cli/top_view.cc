#include "client/cli/top_view.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "client/cli/format.h"
#include "client/cli/read_stats.h"
#include "client/cli/stats_table.h"
#include "client/cli/table.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

constexpr size_t kGap = 2;
constexpr size_t kLeastTarget = 20;
constexpr size_t kLeastProblem = 14;
// Columns beyond the first ones are shown if they leave the problem this much.
constexpr size_t kFirstColumns = 5;
constexpr size_t kFairProblem = 36;

// How bad a target's state is; the row's colour.
enum class Severity : uint8_t { kNone, kNotice, kBad };

struct Problem {
  Severity severity = Severity::kNone;
  std::string text;
};

struct Row {
  const v1::TargetStats& stats;
  // Per second; below zero: not known yet.
  double acquires = -1;
  double failures = -1;
  double dials = -1;
  Problem problem;
};

// At most `width` characters, at least one; "…" stands for a cut end.
std::string Cut(const std::string& text, size_t width) {
  if (DisplayWidth(text) <= width) return text;
  size_t end = 0;
  for (size_t seen = 0; end < text.size(); ++end) {
    const bool begins = (static_cast<unsigned char>(text[end]) & 0xc0) != 0x80;
    if (begins && ++seen == width) break;
  }
  return text.substr(0, end) + "…";
}

std::string Pad(const std::string& text, size_t width, bool right) {
  const std::string cut = Cut(text, width);
  const std::string space(width - DisplayWidth(cut), ' ');
  return right ? space + cut : cut + space;
}

std::string Rate(double rate) {
  if (rate < 0) return "-";
  if (rate < 9.95) return absl::StrFormat("%.1f", rate);
  if (rate < 9999.5) return absl::StrFormat("%.0f", rate);
  return absl::StrFormat("%.0fk", rate / 1000);
}

// "1 of 3 addresses EJECTED: why"; nothing if all are in service.
std::string OutOfService(const v1::TargetStats& target) {
  int out = 0;
  const v1::AddressStats* first = nullptr;
  for (const v1::AddressStats& address : target.addresses()) {
    if (address.state() == "ACTIVE") continue;
    ++out;
    if (first == nullptr) first = &address;
  }
  if (out == 0) return "";
  return absl::StrCat(out, " of ", target.addresses_size(), " addresses ",
                      first->state(), first->why().empty() ? "" : ": ",
                      first->why());
}

Problem ProblemOf(const Row& row) {
  const v1::TargetStats& target = row.stats;
  const std::string& error = target.last_dial_error();
  const std::string because = error.empty() ? "" : ": " + error;
  if (target.breaker().state() == "OPEN") {
    return {Severity::kBad, "breaker open" + because};
  }
  if (target.waiters() > 0) {
    if (!error.empty()) return {Severity::kBad, "dials fail" + because};
    const bool full =
        OpenConnections(target.connections()) >= target.max_connections();
    return {Severity::kBad, full ? "full" : "callers wait"};
  }
  if (row.failures > 0) return {Severity::kBad, "acquires fail" + because};
  if (target.breaker().state() == "HALF_OPEN") {
    return {Severity::kNotice, "breaker half open" + because};
  }
  if (std::string out = OutOfService(target); !out.empty()) {
    return {Severity::kNotice, std::move(out)};
  }
  if (!error.empty()) return {Severity::kNotice, "last dial" + because};
  if (target.desync().has_no_reuse_for()) {
    return {Severity::kNotice, "no reuse: unasked bytes"};
  }
  if (target.warm_floor().missing() > 0) {
    return {Severity::kNotice,
            absl::StrCat(target.warm_floor().missing(), " missing to be warm")};
  }
  return {};
}

double Per(int64_t now, int64_t before, Duration between) {
  const double seconds = ToSeconds(between);
  return seconds > 0 ? static_cast<double>(now - before) / seconds : -1;
}

std::vector<Row> RowsOf(const TopFrame& frame) {
  std::map<std::string_view, const v1::Counters*> before;
  if (frame.before != nullptr &&
      frame.before->instance() == frame.now.instance()) {
    for (const v1::TargetStats& target : frame.before->targets()) {
      before[target.target()] = &target.counters();
    }
  }
  std::vector<Row> rows;
  for (const v1::TargetStats& target : frame.now.targets()) {
    Row row{.stats = target, .problem = {}};
    if (const auto it = before.find(target.target()); it != before.end()) {
      const v1::Counters& now = target.counters();
      row.acquires = Per(now.acquires(), it->second->acquires(), frame.between);
      row.failures = Per(now.acquire_failures(), it->second->acquire_failures(),
                         frame.between);
      row.dials = Per(now.dials(), it->second->dials(), frame.between);
    }
    row.problem = ProblemOf(row);
    rows.push_back(std::move(row));
  }
  return rows;
}

// Rows with a higher value come first; equal ones by the target's name.
using Order = std::vector<double> (*)(const Row& row);
struct SortKey {
  const char* name;
  Order order;
};

double Oldest(const Row& row) {
  return ToSeconds(FromProto(row.stats.oldest_wait()));
}

constexpr SortKey kSortKeys[] = {
    {"problems",
     [](const Row& r) -> std::vector<double> {
       return {double(r.problem.severity), double(r.stats.waiters()), Oldest(r),
               r.failures, r.acquires};
     }},
    {"target", [](const Row&) -> std::vector<double> { return {}; }},
    {"connections",
     [](const Row& r) -> std::vector<double> {
       return {double(OpenConnections(r.stats.connections()))};
     }},
    {"leased",
     [](const Row& r) -> std::vector<double> {
       return {double(r.stats.connections().leased())};
     }},
    {"waiters",
     [](const Row& r) -> std::vector<double> {
       return {double(r.stats.waiters())};
     }},
    {"oldest-wait",
     [](const Row& r) -> std::vector<double> { return {Oldest(r)}; }},
    {"acquires",
     [](const Row& r) -> std::vector<double> { return {r.acquires}; }},
    {"failed",
     [](const Row& r) -> std::vector<double> { return {r.failures}; }},
    {"dials", [](const Row& r) -> std::vector<double> { return {r.dials}; }},
};

void Sort(std::string_view key, std::vector<Row>* rows) {
  Order order = kSortKeys[0].order;
  for (const SortKey& candidate : kSortKeys) {
    if (candidate.name == key) order = candidate.order;
  }
  std::vector<std::pair<std::vector<double>, size_t>> ranked;
  for (size_t i = 0; i < rows->size(); ++i) {
    ranked.emplace_back(order((*rows)[i]), i);
  }
  // The broker's rows are in the order of their names.
  std::stable_sort(
      ranked.begin(), ranked.end(),
      [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<Row> sorted;
  for (const auto& [rank, index] : ranked) sorted.push_back((*rows)[index]);
  rows->swap(sorted);
}

// Columns between the target and the problem, the most important first.
struct Column {
  const char* title;
  size_t width;
  std::string (*cell)(const Row& row);
};

constexpr Column kColumns[] = {
    {"CONNS", 7,
     [](const Row& r) {
       return absl::StrCat(OpenConnections(r.stats.connections()), "/",
                           r.stats.max_connections());
     }},
    {"WAIT", 5, [](const Row& r) { return absl::StrCat(r.stats.waiters()); }},
    {"OLDEST", 8,
     [](const Row& r) -> std::string {
       return r.stats.waiters() > 0 ? FormatDuration(r.stats.oldest_wait())
                                    : "-";
     }},
    {"ACQ/S", 6, [](const Row& r) { return Rate(r.acquires); }},
    {"FAIL/S", 6, [](const Row& r) { return Rate(r.failures); }},
    {"LEASED", 6,
     [](const Row& r) { return absl::StrCat(r.stats.connections().leased()); }},
    {"IDLE", 5,
     [](const Row& r) { return absl::StrCat(r.stats.connections().idle()); }},
    {"DIAL/S", 6, [](const Row& r) { return Rate(r.dials); }},
    {"WAIT P50", 9,
     [](const Row& r) {
       return FormatQuantile(r.stats.acquire_wait(),
                             r.stats.acquire_wait().p50());
     }},
    {"P99", 9,
     [](const Row& r) {
       return FormatQuantile(r.stats.acquire_wait(),
                             r.stats.acquire_wait().p99());
     }},
    {"ACQUIRES", 10,
     [](const Row& r) { return absl::StrCat(r.stats.counters().acquires()); }},
    {"FAILED", 8,
     [](const Row& r) {
       return absl::StrCat(r.stats.counters().acquire_failures());
     }},
};

// How many of kColumns fit, and the widths of what is beside them.
struct Layout {
  size_t shown = 0;
  size_t target = kLeastTarget;
  size_t problem = kLeastProblem;
};

Layout LayoutOf(const std::vector<Row>& rows, size_t columns) {
  Layout layout;
  size_t used = layout.target + kGap + layout.problem;
  for (const Column& column : kColumns) {
    const size_t more =
        layout.shown < kFirstColumns ? 0 : kFairProblem - kLeastProblem;
    if (used + kGap + column.width + more > columns) break;
    used += kGap + column.width;
    ++layout.shown;
  }
  size_t longest = 0;
  for (const Row& row : rows) {
    longest = std::max(longest, DisplayWidth(Printable(row.stats.target())));
  }
  const size_t rest = columns > used ? columns - used : 0;
  const size_t wanted = longest > kLeastTarget ? longest - kLeastTarget : 0;
  layout.target += std::min(rest, wanted);
  layout.problem += rest - std::min(rest, wanted);
  return layout;
}

std::string Line(const Row* row, const Layout& layout) {
  std::string line = Pad(
      row == nullptr ? "TARGET" : Printable(row->stats.target()), layout.target,
      /*right=*/false);
  for (size_t i = 0; i < layout.shown; ++i) {
    absl::StrAppend(
        &line, std::string(kGap, ' '),
        Pad(row == nullptr ? kColumns[i].title : kColumns[i].cell(*row),
            kColumns[i].width, /*right=*/true));
  }
  absl::StrAppend(&line, std::string(kGap, ' '),
                  Cut(row == nullptr ? "PROBLEM" : Printable(row->problem.text),
                      layout.problem));
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

std::string Totals(const TopFrame& frame) {
  const v1::Totals& totals = frame.now.totals();
  const v1::ConnectionCounts& connections = totals.connections();
  const v1::Counters& now = totals.counters();
  std::string text = absl::StrCat(
      "broker ", Printable(frame.now.instance()), ", up ",
      FormatUptime(frame.now, frame.wall), "  targets ", totals.targets(),
      "  sessions ", totals.sessions(), "  waiters ", totals.waiters(),
      "\nconnections ", OpenConnections(connections), "/",
      totals.max_connections(), ": ", connections.idle(), " idle, ",
      connections.leased(), " leased, ", connections.dialing(), " dialing\n");
  const v1::Counters none;
  const bool known = frame.before != nullptr &&
                     frame.before->instance() == frame.now.instance();
  const v1::Counters& then = known ? frame.before->totals().counters() : none;
  const auto rate = [&](int64_t a, int64_t b) {
    return Rate(known ? Per(a, b, frame.between) : -1);
  };
  absl::StrAppend(&text, "per second: ", rate(now.acquires(), then.acquires()),
                  " acquires, ",
                  rate(now.acquire_failures(), then.acquire_failures()),
                  " failed, ", rate(now.executes(), then.executes()),
                  " executes, ", rate(now.dials(), then.dials()), " dials");
  return text;
}

std::string Coloured(const std::string& line, Severity severity, bool color) {
  if (!color || severity == Severity::kNone) return line;
  return absl::StrCat(severity == Severity::kBad ? "\033[31m" : "\033[33m",
                      line, "\033[0m");
}

}  // namespace

const std::vector<std::string>& TopSortKeys() {
  static const auto* const keys = [] {
    auto* names = new std::vector<std::string>;
    for (const SortKey& key : kSortKeys) names->push_back(key.name);
    return names;
  }();
  return *keys;
}

std::string FormatTop(const TopFrame& frame) {
  std::vector<Row> rows = RowsOf(frame);
  Sort(frame.sort, &rows);
  const Layout layout = LayoutOf(rows, frame.columns);
  std::vector<std::string> lines = absl::StrSplit(Totals(frame), '\n');
  for (std::string& line : lines) line = Cut(line, frame.columns);
  lines.push_back("");
  const std::string titles = Line(nullptr, layout);
  lines.push_back(frame.color ? "\033[1m" + titles + "\033[0m" : titles);
  size_t shown = rows.size();
  if (frame.lines > 0 && lines.size() + rows.size() > frame.lines) {
    // The last line says how many are not shown.
    shown = frame.lines > lines.size() ? frame.lines - lines.size() - 1 : 0;
  }
  for (size_t i = 0; i < shown; ++i) {
    lines.push_back(Coloured(Line(&rows[i], layout), rows[i].problem.severity,
                             frame.color));
  }
  if (shown < rows.size()) {
    lines.push_back(absl::StrCat(rows.size() - shown, " more targets"));
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace hotline::client
