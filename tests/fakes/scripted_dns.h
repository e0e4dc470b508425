// A DNS server over UDP on loopback that answers from a table, and writes down
// what it was asked.
#ifndef HOTLINE_TESTS_FAKES_SCRIPTED_DNS_H_
#define HOTLINE_TESTS_FAKES_SCRIPTED_DNS_H_

#include <netinet/in.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hotline::testing {

class ScriptedDns {
 public:
  // How questions of one family are treated.
  enum class Manner {
    kAnswer,
    kSilent,  // They are not answered.
    kHeld,    // They are answered by Release.
    kFails,   // They are answered with SERVFAIL.
  };
  struct Entry {
    std::vector<std::string> addresses;  // IPv4 and IPv6; none: NXDOMAIN.
    uint32_t ttl_s = 60;
    bool silent = false;  // Never answers.
    Manner v4 = Manner::kAnswer;
    Manner v6 = Manner::kAnswer;
  };

  // On `ip`, which is one of loopback's, and `port`; 0: a free one.
  explicit ScriptedDns(std::map<std::string, Entry> entries,
                       const std::string& ip = "127.0.0.1", int port = 0);
  ~ScriptedDns();

  // "127.0.0.1:port".
  std::string address() const;
  int port() const { return port_; }
  // Answers what is held of `name`, from what the table says now. False: there
  // is nothing.
  bool Release(const std::string& name);
  // The names asked for so far, in order, each once.
  std::vector<std::string> names() const;
  void Set(const std::string& name, Entry entry);
  // Questions for IPv4 addresses of `name` so far.
  int questions(const std::string& name) const;

 private:
  struct Question {
    std::string message;
    sockaddr_in from;
  };

  void Serve();
  // Empty: none.
  std::string AnswerTo(const Question& question, bool released);
  void Send(const std::string& answer, const Question& question) const;

  int fd_ = -1;
  int stop_fd_ = -1;
  const std::string ip_;
  int port_ = 0;
  mutable std::mutex mu_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, int> questions_;
  std::vector<std::string> names_;
  std::map<std::string, std::vector<Question>> held_;
  std::thread thread_;
};

}  // namespace hotline::testing

#endif  // HOTLINE_TESTS_FAKES_SCRIPTED_DNS_H_
