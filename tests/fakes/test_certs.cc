#include "tests/fakes/test_certs.h"

#include <stdlib.h>

#include <cstdio>
#include <fstream>
#include <sstream>

namespace hotline::testing {
namespace {

std::string NewKey(const CertStrength& strength) {
  return "-newkey " + strength.key + " -nodes";
}

std::string Digest(const CertStrength& strength) {
  return " -" + strength.digest +
         (strength.pss ? " -sigopt rsa_padding_mode:pss" : "");
}

std::string LeafExtensions(const std::string& san) {
  return "subjectAltName=" + san +
         "\nextendedKeyUsage=serverAuth,clientAuth\n"
         "basicConstraints=critical,CA:FALSE\n";
}

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

TestCa::TestCa(const std::string& name, const CertStrength& strength)
    : dir_(TestDirectory() + "/" + name) {
  ca_ = {dir_ + ".pem", dir_ + ".key"};
  Run("openssl req -x509 " + NewKey(strength) + Digest(strength) +
      " -days 30 -subj '/CN=" + name + "' -keyout " + ca_.key + " -out " +
      ca_.cert);
}

TestCa TestCa::Intermediate(const std::string& name,
                            const CertStrength& strength) const {
  TestCa below = *this;
  below.ca_ =
      Sign(name, "basicConstraints=critical,CA:TRUE\n", "-days 20", strength);
  below.dir_ = dir_ + "-" + name;
  below.chain_ = ReadFile(below.ca_.cert);
  return below;
}

CertFiles TestCa::Issue(const std::string& name, const std::string& san,
                        const CertStrength& strength) const {
  return Sign(name, LeafExtensions(san), "-days 7", strength);
}

CertFiles TestCa::IssueExpired(const std::string& name,
                               const std::string& san) const {
  return Sign(name, LeafExtensions(san), "-days -1", {});
}

CertFiles TestCa::SelfSigned(const std::string& name, const std::string& san,
                             const CertStrength& strength) const {
  const std::string base = dir_ + "-" + name;
  Run("openssl req -x509 " + NewKey(strength) + Digest(strength) +
      " -days 7 -subj '/CN=" + name + "' -addext 'subjectAltName=" + san +
      "' -keyout " + base + ".key -out " + base + ".pem");
  return {base + ".pem", base + ".key"};
}

CertFiles TestCa::Sign(const std::string& name, const std::string& extensions,
                       const std::string& validity,
                       const CertStrength& strength) const {
  const std::string base = dir_ + "-" + name;
  WriteFile(base + ".ext", extensions);
  Run("openssl req -new " + NewKey(strength) + " -subj '/CN=" + name +
      "' -keyout " + base + ".key -out " + base + ".csr");
  Run("openssl x509 -req -in " + base + ".csr -CA " + ca_.cert + " -CAkey " +
      ca_.key + " -CAcreateserial " + validity + Digest(strength) +
      " -extfile " + base + ".ext -out " + base + ".pem");
  WriteFile(base + ".pem", ReadFile(base + ".pem") + chain_);
  return {base + ".pem", base + ".key"};
}

}  // namespace hotline::testing
