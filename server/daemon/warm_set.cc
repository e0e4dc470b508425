#include "server/daemon/warm_set.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "google/protobuf/util/json_util.h"
#include "hotline/v1/warm_set.pb.h"
#include "server/broker/connection_options.h"
#include "server/broker/validate.h"

namespace hotline::server {
namespace {

constexpr char kKind[] = "hotline.v1.WarmSet";
// No pool may have more, so a larger number is a mistake.
constexpr int kMostConnections = 1'000'000;
constexpr Duration kStep = std::chrono::milliseconds(50);

absl::Status Wrong(int entry, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "entry ", entry, ": ", std::string(what.data(), what.size())));
}

absl::StatusOr<WarmEntry> Convert(int number, const v1::WarmEntry& in) {
  // An entry must be valid as an Acquire.
  v1::AcquireRequest asked;
  asked.set_target(in.target());
  *asked.mutable_options() = in.options();
  asked.set_mode(in.mode());
  if (in.has_validate()) *asked.mutable_validate() = in.validate();
  ParsedTarget target;
  if (auto bad = ValidateAcquire(asked, &target)) {
    return Wrong(number, absl::StrCat(bad->field, ": ", bad->message));
  }
  if (in.connections() < 1 || in.connections() > kMostConnections) {
    return Wrong(number, "connections: 1 to 1000000");
  }
  if (in.uses() < 0) return Wrong(number, "uses: not negative");
  WarmEntry out;
  out.key.target = std::move(target.canonical);
  out.key.options = FromProto(in.options());
  if (in.has_validate()) out.key.options.validate = FromProto(in.validate());
  out.key.mode = in.mode() == v1::MODE_EXCLUSIVE ? pool::Mode::kExclusive
                                                 : pool::Mode::kShared;
  out.connections = in.connections();
  out.uses = static_cast<uint64_t>(in.uses());
  return out;
}

// Writes and syncs a new file.
absl::Status WriteWhole(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                      S_IRUSR | S_IWUSR);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  size_t written = 0;
  int failed = 0;
  while (written < text.size() && failed == 0) {
    const ssize_t size =
        write(fd, text.data() + written, text.size() - written);
    if (size >= 0) {
      written += static_cast<size_t>(size);
    } else if (errno != EINTR) {
      failed = errno;
    }
  }
  if (failed == 0 && fsync(fd) != 0) failed = errno;
  if (close(fd) != 0 && failed == 0) failed = errno;
  return failed == 0 ? absl::OkStatus() : absl::ErrnoToStatus(failed, path);
}

}  // namespace

std::vector<WarmEntry> WarmSetOf(const pool::Snapshot& snapshot) {
  absl::flat_hash_map<pool::HostPoolKey, WarmEntry> by_key;
  for (const pool::ConnectionRow& row : snapshot.connections) {
    if (row.state != pool::ConnState::kReady &&
        row.state != pool::ConnState::kProbing) {
      continue;
    }
    WarmEntry& entry = by_key[row.key];
    entry.key = row.key;
    ++entry.connections;
    entry.uses += row.uses;
  }
  std::vector<WarmEntry> entries;
  for (auto& [key, entry] : by_key) entries.push_back(std::move(entry));
  std::sort(entries.begin(), entries.end(),
            [](const WarmEntry& a, const WarmEntry& b) {
              return a.uses != b.uses ? a.uses > b.uses
                                      : a.key.target < b.key.target;
            });
  if (entries.size() > kMostWarmEntries) entries.resize(kMostWarmEntries);
  return entries;
}

std::string FormatWarmSet(const std::vector<WarmEntry>& entries) {
  v1::WarmSet set;
  set.set_kind(kKind);
  for (const WarmEntry& entry : entries) {
    v1::WarmEntry* out = set.add_entries();
    out->set_target(entry.key.target);
    const pool::ConnectionOptions& options = entry.key.options;
    if (!(options == pool::ConnectionOptions())) {
      FillOptions(options, out->mutable_options());
    }
    if (!options.validate.empty()) {
      FillCheck(options.validate, out->mutable_validate());
    }
    out->set_mode(entry.key.mode == pool::Mode::kExclusive ? v1::MODE_EXCLUSIVE
                                                           : v1::MODE_SHARED);
    out->set_connections(entry.connections);
    out->set_uses(static_cast<int64_t>(entry.uses));
  }
  google::protobuf::util::JsonPrintOptions pretty;
  pretty.add_whitespace = true;
  std::string text;
  // Cannot fail: every field is one of ours and UTF-8.
  static_cast<void>(
      google::protobuf::util::MessageToJsonString(set, &text, pretty));
  return text;
}

absl::StatusOr<std::vector<WarmEntry>> ParseWarmSet(std::string_view text) {
  if (text.size() > kMostWarmSetBytes) {
    return absl::InvalidArgumentError("more than 8 MiB");
  }
  v1::WarmSet set;
  const auto parsed = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(text.data(), text.size()), &set);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a warm set: ", std::string(parsed.message())));
  }
  if (set.kind() != kKind) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a warm set: its kind is not ", kKind));
  }
  if (set.entries_size() > static_cast<int>(kMostWarmEntries)) {
    return absl::InvalidArgumentError("more than 10000 entries");
  }
  std::vector<WarmEntry> entries;
  for (int i = 0; i < set.entries_size(); ++i) {
    auto entry = Convert(i + 1, set.entries(i));
    if (!entry.ok()) return entry.status();
    entries.push_back(*std::move(entry));
  }
  return entries;
}

absl::StatusOr<std::vector<WarmEntry>> LoadWarmSet(const std::string& path) {
  const auto text = ReadFile(path, kMostWarmSetBytes + 1);
  if (!text.ok()) return text.status();
  return ParseWarmSet(*text);
}

absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  absl::Status status = WriteWhole(temporary, text);
  if (status.ok() && std::rename(temporary.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, path);
  }
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

Rewarmer::Rewarmer(std::vector<WarmEntry> entries, int dials_per_second,
                   Duration patience, Instant now, Prewarm prewarm)
    : entries_(std::move(entries)),
      dials_per_second_(std::max(1, dials_per_second)),
      end_(SaturatingAdd(now, patience)),
      prewarm_(std::move(prewarm)),
      last_(now) {
  for (const WarmEntry& entry : entries_) wanted_ += entry.connections;
  missing_ = wanted_;
  done_ = missing_ == 0;
}

Instant Rewarmer::Step(Instant now) {
  if (done_) return kNever;
  // A late step makes up for one second at most.
  allowed_ = std::min<double>(
      dials_per_second_,
      allowed_ +
          ToSeconds(std::max(Duration(0), now - last_)) * dials_per_second_);
  last_ = now;
  missing_ = 0;
  for (const WarmEntry& entry : entries_) {
    const pool::PrewarmResult result =
        prewarm_(entry.key, entry.connections,
                 static_cast<int>(std::floor(allowed_)), now);
    allowed_ -= result.begun;
    missing_ += result.missing;
  }
  done_ = missing_ == 0 || now >= end_;
  return done_ ? kNever : SaturatingAdd(now, kStep);
}

}  // namespace hotline::server
