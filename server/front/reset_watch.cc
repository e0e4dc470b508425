#include "server/front/reset_watch.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_replace.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "grpc/grpc.h"
#include "grpc/support/alloc.h"

namespace hotline::server {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

// Seconds' worth of resets that are forgiven.
constexpr double kBurst = 1.5;

// In seconds' worth: what a caller can have on its side.
constexpr double kMostCredit = 10;

// How long every chance to look is taken after many calls have failed; else
// only so often, when any have.
constexpr Duration kAttention = std::chrono::seconds(5);
constexpr Duration kLookEvery = std::chrono::seconds(1);
// After a look at many connections there is a rest of so many times as long.
constexpr int kRest = 9;
// How long a delivered connection may take to be known by number.
constexpr Duration kMatchWithin = std::chrono::seconds(1);

// channelz's JSON, which is proto3's; empty when there is none.
Struct Parse(char* json) {
  Struct out;
  if (json == nullptr) return out;
  if (!google::protobuf::util::JsonStringToMessage(json, &out).ok()) {
    out.Clear();
  }
  gpr_free(json);
  return out;
}

const Value& At(const Struct& in, const char* key) {
  const auto found = in.fields().find(key);
  return found == in.fields().end() ? Value::default_instance() : found->second;
}

const Struct& Inside(const Struct& in, const char* key) {
  return At(in, key).struct_value();
}

// 64-bit numbers are strings there; what is zero is left out.
uint64_t Number(const Struct& in, const char* key) {
  return std::strtoull(At(in, key).string_value().c_str(), nullptr, 10);
}

std::vector<uint64_t> Servers() {
  std::vector<uint64_t> out;
  const Struct list = Parse(grpc_channelz_get_servers(0));
  for (const Value& server : At(list, "server").list_value().values()) {
    out.push_back(Number(Inside(server.struct_value(), "ref"), "serverId"));
  }
  return out;
}

// "chttp2 ipv4:127.0.0.1:5555", "chttp2 ipv6:%5B::1%5D:5555", "chttp2 unix:".
std::string PeerIn(const std::string& name) {
  for (const char* family : {"ipv4:", "ipv6:"}) {
    const size_t at = name.find(family);
    if (at == std::string::npos) continue;
    return absl::StrReplaceAll(name.substr(at + 5),
                               {{"%5B", "["}, {"%5D", "]"}});
  }
  return "";
}

// A connection as channelz knows it.
struct Socket {
  uint64_t number = 0;
  std::string peer;  // Unix sockets: empty.
};

// Those with numbers from `first` on, in that order.
std::vector<Socket> Sockets(uint64_t first) {
  std::vector<Socket> out;
  for (const uint64_t server : Servers()) {
    uint64_t next = first;
    for (bool more = true; more;) {
      const Struct list =
          Parse(grpc_channelz_get_server_sockets(server, next, 0));
      const auto& sockets = At(list, "socketRef").list_value().values();
      for (const Value& socket : sockets) {
        const Struct& ref = socket.struct_value();
        out.push_back(
            {Number(ref, "socketId"), PeerIn(At(ref, "name").string_value())});
        next = std::max(next, out.back().number + 1);
      }
      more = !sockets.empty() && !At(list, "end").bool_value();
    }
  }
  return out;
}

}  // namespace

bool ResetAccount::Add(const StreamCounts& counts, int per_second,
                       Instant now) {
  const double fade = 1 / (1 + ToSeconds(now - last_));
  resets_ = resets_ * fade + static_cast<double>(counts.failed - failed_);
  answers_ = std::min(
      answers_ * fade + static_cast<double>(counts.succeeded - succeeded_),
      kMostCredit * per_second);
  last_ = now;
  failed_ = counts.failed;
  succeeded_ = counts.succeeded;
  // Each is read at a moment of its own.
  const uint64_t accounted =
      counts.failed + counts.succeeded + kMostConcurrentStreams;
  const uint64_t doomed = counts.started - std::min(counts.started, accounted);
  const double resets = resets_ + static_cast<double>(doomed);
  return resets > kBurst * per_second && resets > answers_;
}

bool ResetWatch::IsWorthALook(Instant now) {
  uint64_t started = 0;
  uint64_t failed = 0;
  uint64_t succeeded = 0;
  for (const uint64_t server : Servers()) {
    const Struct answer = Parse(grpc_channelz_get_server(server));
    const Struct& data = Inside(Inside(answer, "server"), "data");
    started += Number(data, "callsStarted");
    failed += Number(data, "callsFailed");
    succeeded += Number(data, "callsSucceeded");
  }
  const uint64_t limit = static_cast<uint64_t>(per_second_) / 20;
  const bool many_failed = failed - std::min(failed, failed_) > limit;
  const bool many_open = started - std::min(started, started_) > limit &&
                         started > failed + succeeded + kMostConcurrentStreams;
  started_ = started;
  failed_ = failed;
  if (many_failed || many_open) attention_until_ = now + kAttention;
  if (now < rest_until_) return false;
  // A stream is counted a little later than its call: so attention does not end
  // with the last of them.
  if (now >= attention_until_ &&
      (failed == failed_at_look_ || now < next_look_)) {
    return false;
  }
  failed_at_look_ = failed;
  next_look_ = now + kLookEvery;
  return true;
}

std::vector<ResetWatch::Connection> ResetWatch::Look(Instant now) {
  MatchUnix(now);
  std::vector<Connection> over;
  if (!IsWorthALook(now)) return over;
  absl::flat_hash_map<uint64_t, ResetAccount> accounts;
  absl::flat_hash_map<uint64_t, uint64_t> ids;
  for (Socket& socket : Sockets(0)) {
    const Struct answer = Parse(grpc_channelz_get_socket(socket.number));
    const Struct& data = Inside(Inside(answer, "socket"), "data");
    ResetAccount account = accounts_[socket.number];
    const bool is_over = account.Add(
        {Number(data, "streamsStarted"), Number(data, "streamsFailed"),
         Number(data, "streamsSucceeded")},
        per_second_, now);
    accounts.emplace(socket.number, account);
    const auto known = ids_.find(socket.number);
    const uint64_t id = known == ids_.end() ? 0 : known->second;
    if (id != 0) ids.emplace(socket.number, id);
    if (is_over) over.push_back({id, std::move(socket.peer)});
  }
  accounts_ = std::move(accounts);
  ids_ = std::move(ids);
  const Instant end = MonotonicNow();
  rest_until_ = end + kRest * (end - now);
  return over;
}

void ResetWatch::OnUnixDelivered(uint64_t id, Instant now) {
  unmatched_.push_back(id);
  match_until_ = now + kMatchWithin;
}

void ResetWatch::MatchUnix(Instant now) {
  if (unmatched_.empty()) return;
  std::vector<Socket> fresh = Sockets(newest_ + 1);
  fresh.erase(
      std::remove_if(fresh.begin(), fresh.end(),
                     [](const Socket& socket) { return !socket.peer.empty(); }),
      fresh.end());
  // Some are on their way yet; who ends before it has begun never comes.
  if (fresh.size() < unmatched_.size() && now < match_until_) return;
  if (fresh.size() == unmatched_.size()) {
    for (size_t i = 0; i < fresh.size(); ++i) {
      ids_[fresh[i].number] = unmatched_[i];
    }
  }
  for (const Socket& socket : fresh) newest_ = std::max(newest_, socket.number);
  unmatched_.clear();
}

}  // namespace hotline::server
