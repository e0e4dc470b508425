#include "server/broker/reasons.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/broker/call_metrics.h"

namespace hotline::server {
namespace {

// Pairs of a code and a reason: "UNAVAILABLE", "DNS_FAILED".
using Listed = std::set<std::pair<std::string, std::string>>;

std::vector<std::string> LinesOf(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  EXPECT_FALSE(lines.empty()) << path;
  return lines;
}

std::vector<std::string> FindAll(const std::string& text, const char* pattern) {
  const std::regex regex(pattern);
  std::vector<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end;
       ++it) {
    found.push_back((*it)[1]);
  }
  return found;
}

// The reasons in one line of a list, without the code.
std::vector<std::string> Names(const std::string& text) {
  std::vector<std::string> names = FindAll(text, "\\b([A-Z][A-Z_]{4,})\\b");
  std::erase_if(names, [](const std::string& name) {
    return name == "NOT_SENT" || name == "REFUSED_BY_PEER";  // Verdicts.
  });
  return names;
}

// The lists of errors in broker.proto, by RPC; "*": for every RPC.
class Contract {
 public:
  explicit Contract(const std::string& proto = "broker") {
    for (const std::string& line :
         LinesOf("proto/hotline/v1/" + proto + ".proto")) {
      Read(line);
    }
  }

  const Listed& Of(const std::string& rpc) { return lists_[rpc]; }
  // Those of any one RPC.
  Listed OfAll() const {
    Listed all;
    for (const auto& [rpc, list] : lists_) {
      if (rpc != "*") all.insert(list.begin(), list.end());
    }
    return all;
  }
  // The reasons with RetryInfo in the list for every RPC.
  const std::set<std::string>& retried() const { return retried_; }

 private:
  void Read(const std::string& line) {
    std::smatch match;
    if (line.find("Every RPC may also end with") != std::string::npos) {
      in_list_ = true;
    } else if (line.starts_with("service ")) {
      End("*");
    } else if (std::regex_search(line, match, std::regex("^  rpc (\\w+)\\("))) {
      End(match[1]);
    } else if (std::regex_search(line,
                                 std::regex("// Errors( of an item)?:"))) {
      in_list_ = true;
      Inherit(line);
    } else if (in_list_ &&
               std::regex_match(line, match,
                                std::regex(" *//   ([A-Z_]+) {2,}(.*)"))) {
      code_ = match[1];
      Add(match[2]);
    } else if (in_list_ && !code_.empty()) {
      Add(line);
    }
  }

  void Inherit(const std::string& line) {
    if (line.find("those of Acquire") != std::string::npos) {
      list_ = lists_["Acquire"];
      // Only Acquire has a request_id.
      list_.erase({"INVALID_ARGUMENT", "REQUEST_ID_CONFLICT"});
    } else if (line.find("those of Execute") != std::string::npos) {
      list_ = lists_["Execute"];
      for (const std::string& name : Names(line)) {
        std::erase_if(list_,
                      [&](const auto& row) { return row.second == name; });
      }
    }
  }

  void Add(const std::string& text) {
    for (const std::string& name : Names(text)) {
      list_.emplace(code_, name);
      if (text.find("with RetryInfo") != std::string::npos) {
        retried_.insert(name);
      }
    }
  }

  void End(const std::string& rpc) {
    lists_[rpc] = std::exchange(list_, {});
    in_list_ = false;
    code_.clear();
  }

  std::map<std::string, Listed> lists_;
  std::set<std::string> retried_;
  bool in_list_ = false;
  std::string code_;
  Listed list_;
};

// The table's errors for `rpcs`, as in the contract: without CANCELLED.
Listed TableFor(RpcSet rpcs) {
  Listed out;
  for (const ReasonRow& row : kReasons) {
    if ((row.rpcs & rpcs) == 0 || row.name == "CANCELLED") continue;
    for (const absl::StatusCode code : {row.code, row.other_code}) {
      if (code == absl::StatusCode::kOk) continue;
      out.emplace(absl::StatusCodeToString(code), row.name);
    }
  }
  return out;
}

TEST(ReasonsTest, NamesAreUniqueAndFound) {
  std::set<std::string_view> names;
  for (const ReasonRow& row : kReasons) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    const auto reason = Reason::Find(row.name);
    ASSERT_TRUE(reason.has_value()) << row.name;
    EXPECT_EQ(reason->name(), row.name);
    EXPECT_EQ(reason->code(), row.code);
  }
  EXPECT_FALSE(Reason::Find("QUEUE_FUL").has_value());
  EXPECT_FALSE(Reason::Find("").has_value());
}

TEST(ReasonsTest, TheContractListsTheTablesReasonsForEachRpc) {
  Contract contract;
  for (size_t i = 0; i < kRpcMethods.size(); ++i) {
    const std::string rpc(kRpcMethods[i]);
    if (rpc == "Session") continue;
    EXPECT_EQ(contract.Of(rpc),
              TableFor(reasons::BitOf(static_cast<RpcMethod>(i))))
        << rpc;
  }
}

TEST(ReasonsTest, TheContractOfAdminListsTheTablesReasons) {
  Contract contract("admin");
  EXPECT_EQ(contract.OfAll(), TableFor(reasons::kAdmin));
  Listed any = TableFor(reasons::kAny);
  any.erase({"INVALID_ARGUMENT", "BAD_MESSAGE"});
  any.erase({"RESOURCE_EXHAUSTED", "OVERLOADED"});
  // Of a drain's end, which the control plane outlives; some of its RPCs refuse
  // with it.
  any.erase({"UNAVAILABLE", "DRAINING"});
  EXPECT_EQ(contract.Of("*"), any);
}

TEST(ReasonsTest, TheContractListsTheErrorsOfItemsAndOfEveryRpc) {
  Contract contract;
  Listed items = TableFor(reasons::kItem);
  items.emplace("RESOURCE_EXHAUSTED", "QUOTA");
  EXPECT_EQ(contract.Of("Session"), items);
  EXPECT_EQ(TableFor(reasons::kSession), (Listed{{"UNAVAILABLE", "DRAINING"}}));
  EXPECT_EQ(contract.Of("*"), TableFor(reasons::kAny));
  EXPECT_EQ(contract.retried(),
            (std::set<std::string>{"DRAINING", "OVERLOADED", "QUOTA"}));
  for (const std::string& name : contract.retried()) {
    EXPECT_TRUE(Reason::Find(name)->retry_later()) << name;
  }
}

TEST(ReasonsTest, EveryEndingOfAnExecuteHasALabel) {
  EXPECT_EQ(kExecuteResults.front(), "ok");
  EXPECT_EQ(kExecuteResults.back(), "other");
  const std::set<std::string> labels(kExecuteResults.begin(),
                                     kExecuteResults.end());
  EXPECT_EQ(labels.size(), kExecuteResultCount);
  for (const char* label : {"cancelled", "circuit_open", "dns_failed", "quota",
                            "upstream_reset", "wont_make_deadline"}) {
    EXPECT_TRUE(labels.contains(label)) << label;
  }
  EXPECT_FALSE(labels.contains("bad_page_token"));
}

TEST(ReasonsTest, TheOperatorsListNamesLabelsThatExist) {
  bool in_table = false;
  int checked = 0;
  for (const std::string& line : LinesOf("docs/operations.md")) {
    if (line.starts_with("| result |")) in_table = true;
    if (line.empty()) in_table = false;
    if (!in_table) continue;
    const std::string first = line.substr(0, line.find('|', 1));
    for (const std::string& label : FindAll(first, "`([a-z_]+)`")) {
      EXPECT_EQ(
          std::count(kExecuteResults.begin(), kExecuteResults.end(), label), 1)
          << label;
      ++checked;
    }
  }
  EXPECT_GT(checked, 15);
}

}  // namespace
}  // namespace hotline::server
