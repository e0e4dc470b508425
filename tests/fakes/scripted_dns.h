// A DNS server over UDP on loopback that answers from a table.
#ifndef HOTLINE_TESTS_FAKES_SCRIPTED_DNS_H_
#define HOTLINE_TESTS_FAKES_SCRIPTED_DNS_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hotline::testing {

class ScriptedDns {
 public:
  struct Entry {
    std::vector<std::string> addresses;  // IPv4 and IPv6; none: NXDOMAIN.
    uint32_t ttl_s = 60;
    bool silent = false;  // Never answers.
  };

  explicit ScriptedDns(std::map<std::string, Entry> entries);
  ~ScriptedDns();

  // "127.0.0.1:port".
  std::string address() const;
  void Set(const std::string& name, Entry entry);
  // Questions for IPv4 addresses of `name` so far.
  int questions(const std::string& name) const;

 private:
  void Serve();
  std::string AnswerTo(const std::string& question);

  int fd_ = -1;
  int stop_fd_ = -1;
  int port_ = 0;
  mutable std::mutex mu_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, int> questions_;
  std::thread thread_;
};

}  // namespace hotline::testing

#endif  // HOTLINE_TESTS_FAKES_SCRIPTED_DNS_H_
