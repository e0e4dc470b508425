#include "server/front/key_pair.h"

#include <chrono>
#include <string>

#include "gtest/gtest.h"
#include "tests/fakes/test_certs.h"

namespace hotline::server {
namespace {

using testing::ReadFile;

TEST(KeyPairTest, AKeyFitsItsOwnCertificateAlone) {
  const testing::TestCa ca;
  const auto a = ca.Issue("a", "DNS:a.test");
  const auto b = ca.Issue("b", "DNS:b.test");
  const auto fits = CheckKeyPair(ReadFile(a.cert), ReadFile(a.key));
  ASSERT_TRUE(fits.ok()) << fits.status();
  EXPECT_GT(*fits, std::chrono::system_clock::now());
  EXPECT_EQ(CheckKeyPair(ReadFile(a.cert), ReadFile(b.key)).status().message(),
            "the key is not the certificate's");
  // The first certificate is ours; its chain follows.
  EXPECT_TRUE(
      CheckKeyPair(ReadFile(a.cert) + ReadFile(ca.cert()), ReadFile(a.key))
          .ok());
  EXPECT_FALSE(
      CheckKeyPair(ReadFile(ca.cert()) + ReadFile(a.cert), ReadFile(a.key))
          .ok());
}

TEST(KeyPairTest, WhatIsNoPemIsRefused) {
  const testing::TestCa ca;
  const auto a = ca.Issue("a", "DNS:a.test");
  const std::string cert = ReadFile(a.cert);
  const std::string key = ReadFile(a.key);
  EXPECT_FALSE(CheckKeyPair("", key).ok());
  EXPECT_FALSE(CheckKeyPair(cert, "").ok());
  EXPECT_FALSE(CheckKeyPair(key, cert).ok());
  EXPECT_FALSE(CheckKeyPair(cert.substr(0, cert.size() / 2), key).ok());
  EXPECT_FALSE(CheckKeyPair(cert, key.substr(0, key.size() / 2)).ok());
  EXPECT_TRUE(CheckAuthorities(cert + ReadFile(ca.cert())).ok());
  EXPECT_FALSE(CheckAuthorities("").ok());
  EXPECT_FALSE(CheckAuthorities("hello").ok());
  EXPECT_FALSE(CheckAuthorities(cert + cert.substr(0, cert.size() / 2)).ok());
}

}  // namespace
}  // namespace hotline::server
