// Certificates for tests, made with the openssl command.
#ifndef HOTLINE_TESTS_FAKES_TEST_CERTS_H_
#define HOTLINE_TESTS_FAKES_TEST_CERTS_H_

#include <string>

namespace hotline::testing {

struct CertFiles {
  std::string cert;  // PEM; paths.
  std::string key;
};

// What a certificate is made with, in the openssl command's words.
struct CertStrength {
  std::string key = "ec -pkeyopt ec_paramgen_curve:P-256";  // Or "rsa:2048".
  std::string digest = "sha256";  // Of the authority's signature on it.
  bool pss = false;               // RSA signatures are PSS ones.
};

// An authority and what it signs, as files in a directory of the test's own.
// Slow (some 10 ms a certificate): share one among a suite's tests.
class TestCa {
 public:
  // `name` tells authorities apart; it is part of the files' names.
  explicit TestCa(const std::string& name = "ca",
                  const CertStrength& strength = {});

  // An authority below this one. What it issues comes with its certificate, as
  // a server shows it.
  TestCa Intermediate(const std::string& name,
                      const CertStrength& strength) const;

  const std::string& cert() const { return ca_.cert; }

  // A certificate for `san` ("DNS:localhost,IP:127.0.0.1"), good for servers
  // and clients.
  CertFiles Issue(const std::string& name, const std::string& san,
                  const CertStrength& strength = {}) const;
  // The same, but its time is over.
  CertFiles IssueExpired(const std::string& name, const std::string& san) const;
  // Signed by itself.
  CertFiles SelfSigned(const std::string& name, const std::string& san,
                       const CertStrength& strength = {}) const;

 private:
  // `extensions`: lines of openssl's file.
  CertFiles Sign(const std::string& name, const std::string& extensions,
                 const std::string& validity,
                 const CertStrength& strength) const;

  std::string dir_;
  CertFiles ca_;
  std::string chain_;  // PEM; what follows a certificate up to the root.
};

// A directory for the running test's files: TEST_TMPDIR, else one in /tmp.
std::string TestDirectory();

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& text);

}  // namespace hotline::testing

#endif  // HOTLINE_TESTS_FAKES_TEST_CERTS_H_
