#include "server/front/certificates.h"

#include <chrono>
#include <filesystem>

#include "gtest/gtest.h"
#include "tests/fakes/test_certs.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::TestCa;

struct Certs {
  TestCa ca{"certificates-ca"};
  CertFiles one = ca.Issue("one", "DNS:localhost");
  CertFiles two = ca.Issue("two", "DNS:localhost");
};
const Certs& All() {
  static const Certs* const all = new Certs;
  return *all;
}

// Copies of certificate files, which a test may change.
class CertificatesTest : public ::testing::Test {
 protected:
  CertificatesTest() {
    const std::string dir = testing::TestDirectory();
    files_ = {dir + "/cert.pem", dir + "/key.pem", dir + "/ca.pem"};
    Copy(All().one.cert, files_.cert_file);
    Copy(All().one.key, files_.key_file);
    Copy(All().ca.cert(), files_.client_ca_file);
  }
  static void Copy(const std::string& from, const std::string& to) {
    testing::WriteFile(to, testing::ReadFile(from));
  }

  TlsFiles files_;
};

TEST_F(CertificatesTest, AreLoadedWithTheirExpiry) {
  const auto loaded = Certificates::Load(files_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_GT((*loaded)->expires(), std::chrono::system_clock::now());
  EXPECT_NE((*loaded)->contexts().current(), nullptr);
}

TEST_F(CertificatesTest, AFaultNamesItsFile) {
  testing::WriteFile(files_.client_ca_file, "no PEM");
  EXPECT_TRUE(Certificates::Load(files_).status().message().find(
                  files_.client_ca_file) != absl::string_view::npos);
  Copy(All().ca.cert(), files_.client_ca_file);
  Copy(All().two.key, files_.key_file);
  EXPECT_TRUE(Certificates::Load(files_).status().message().find(
                  files_.key_file) != absl::string_view::npos);
  std::filesystem::remove(files_.cert_file);
  EXPECT_FALSE(Certificates::Load(files_).ok());
}

TEST_F(CertificatesTest, AreReplacedOnceCertificateAndKeyMatch) {
  const auto loaded = Certificates::Load(files_);
  ASSERT_TRUE(loaded.ok());
  Certificates& certificates = **loaded;
  const auto first = certificates.contexts().current();
  ASSERT_TRUE(certificates.Refresh().ok());
  EXPECT_FALSE(*certificates.Refresh());
  // The files change one after the other.
  Copy(All().two.cert, files_.cert_file);
  EXPECT_FALSE(certificates.Refresh().ok());
  EXPECT_EQ(certificates.contexts().current(), first);
  Copy(All().two.key, files_.key_file);
  const auto taken = certificates.Refresh();
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_TRUE(*taken);
  EXPECT_NE(certificates.contexts().current(), first);
  EXPECT_FALSE(*certificates.Refresh());
}

}  // namespace
}  // namespace hotline::server
