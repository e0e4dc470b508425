#include "tests/fakes/test_certs.h"

#include <stdlib.h>

#include <cstdio>
#include <fstream>
#include <sstream>

namespace hotline::testing {
namespace {

constexpr char kNewKey[] = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

// Ends the test program when the command fails: nothing can be tested then.
void Run(const std::string& command) {
  const std::string logged =
      command + " >/dev/null 2>" + TestDirectory() + "/openssl.log";
  if (system(logged.c_str()) == 0) return;
  std::fprintf(stderr, "failed: %s\n%s\n", command.c_str(),
               ReadFile(TestDirectory() + "/openssl.log").c_str());
  abort();
}

}  // namespace

std::string TestDirectory() {
  static const std::string directory = [] {
    const char* given = getenv("TEST_TMPDIR");
    if (given != nullptr) return std::string(given);
    char made[] = "/tmp/hotline-test-XXXXXX";
    return std::string(mkdtemp(made));
  }();
  return directory;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

TestCa::TestCa(const std::string& name) : dir_(TestDirectory() + "/" + name) {
  ca_ = {dir_ + ".pem", dir_ + ".key"};
  Run(std::string("openssl req -x509 ") + kNewKey + " -days 30 -subj '/CN=" +
      name + "' -keyout " + ca_.key + " -out " + ca_.cert);
}

CertFiles TestCa::Issue(const std::string& name, const std::string& san) const {
  return Sign(name, san, "-days 7");
}

CertFiles TestCa::IssueExpired(const std::string& name,
                               const std::string& san) const {
  return Sign(name, san, "-days -1");
}

CertFiles TestCa::SelfSigned(const std::string& name,
                             const std::string& san) const {
  const std::string base = dir_ + "-" + name;
  Run(std::string("openssl req -x509 ") + kNewKey +
      " -days 7 -subj '/CN=" + name + "' -addext 'subjectAltName=" + san +
      "' -keyout " + base + ".key -out " + base + ".pem");
  return {base + ".pem", base + ".key"};
}

CertFiles TestCa::Sign(const std::string& name, const std::string& san,
                       const std::string& validity) const {
  const std::string base = dir_ + "-" + name;
  WriteFile(base + ".ext", "subjectAltName=" + san +
                               "\nextendedKeyUsage=serverAuth,clientAuth\n"
                               "basicConstraints=critical,CA:FALSE\n");
  Run(std::string("openssl req -new ") + kNewKey + " -subj '/CN=" + name +
      "' -keyout " + base + ".key -out " + base + ".csr");
  Run("openssl x509 -req -in " + base + ".csr -CA " + ca_.cert + " -CAkey " +
      ca_.key + " -CAcreateserial " + validity + " -extfile " + base +
      ".ext -out " + base + ".pem");
  return {base + ".pem", base + ".key"};
}

}  // namespace hotline::testing
