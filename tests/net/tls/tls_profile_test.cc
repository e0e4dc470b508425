// What each TLS profile makes a client say first, without a socket.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "net/tls/tls.h"
#include "tests/fakes/test_certs.h"
#include "tests/net/tls/client_hello.h"

namespace hotline::net {
namespace {

using ::hotline::testing::TestCa;
using ::hotline::testing::TestDirectory;
using ::hotline::testing::WriteFile;
using Names = std::vector<std::string>;

const TlsProfile& BuiltIn(const std::string& name) {
  for (const TlsProfile& profile : BuiltInTlsProfiles()) {
    if (profile.name == name) return profile;
  }
  ADD_FAILURE() << "no profile " << name;
  return BuiltInTlsProfiles()[0];
}

ClientHello HelloOf(const TlsProfile& profile) {
  std::vector<TlsFault> faults;
  const auto context =
      TlsContext::Create(profile, TlsAuthorities::None(), nullptr, 0, &faults);
  for (const TlsFault& fault : faults) {
    ADD_FAILURE() << fault.key << ": " << fault.text;
  }
  const auto engine =
      TlsEngine::Create(context, "a.example", profile.alpn, "scope");
  std::string bytes;
  EXPECT_EQ(TlsResult::kWantInput, engine->Handshake(&bytes));
  const auto hello = ClientHello::Parse(bytes);
  EXPECT_TRUE(hello.has_value());
  return hello.value_or(ClientHello());
}

// "key: text" of each fault.
Names Faults(const TlsProfile& profile) {
  Names out;
  for (const TlsFault& fault : CheckTlsProfile(profile)) {
    out.push_back(fault.key + ": " + fault.text);
  }
  return out;
}

TEST(TlsProfileTest, FourAreBuiltIn) {
  Names names;
  for (const TlsProfile& profile : BuiltInTlsProfiles()) {
    names.push_back(profile.name);
    EXPECT_EQ(Faults(profile), Names()) << profile.name;
  }
  EXPECT_EQ(names, (Names{"default", "modern", "compatible", "chromium"}));
}

TEST(TlsProfileTest, EachHasAHelloOfItsOwn) {
  std::map<std::string, std::string> shapes;
  for (const TlsProfile& profile : BuiltInTlsProfiles()) {
    const auto [same, added] =
        shapes.emplace(HelloOf(profile).Shape(), profile.name);
    EXPECT_TRUE(added) << profile.name << " is like " << same->second;
  }
}

TEST(TlsProfileTest, AHelloKeepsItsShapeFromConnectionToConnection) {
  for (const TlsProfile& profile : BuiltInTlsProfiles()) {
    const ClientHello first = HelloOf(profile);
    for (int i = 0; i < 10; ++i) {
      const ClientHello next = HelloOf(profile);
      EXPECT_EQ(first.Shape(), next.Shape()) << profile.name;
      if (profile.permute_extensions) continue;
      EXPECT_EQ(first.extensions(), next.extensions()) << profile.name;
    }
  }
}

TEST(TlsProfileTest, PermutationChangesTheOrderOfExtensionsOnly) {
  TlsProfile profile = BuiltIn("default");
  profile.permute_extensions = true;
  std::set<ClientHello::List> orders;
  for (int i = 0; i < 10; ++i) {
    const ClientHello hello = HelloOf(profile);
    orders.insert(hello.extensions());
    EXPECT_EQ(HelloOf(BuiltIn("default")).Shape(), hello.Shape());
  }
  // Some dozen extensions: that two orders are equal will not be seen.
  EXPECT_EQ(orders.size(), 10u);
}

TEST(TlsProfileTest, GreaseIsThereWhenAskedFor) {
  EXPECT_FALSE(HelloOf(BuiltIn("default")).HasGrease());
  TlsProfile profile = BuiltIn("default");
  profile.grease = true;
  EXPECT_TRUE(HelloOf(profile).HasGrease());
  EXPECT_TRUE(HelloOf(BuiltIn("chromium")).HasGrease());
}

TEST(TlsProfileTest, VersionsAreThoseBetweenTheBounds) {
  EXPECT_EQ(HelloOf(BuiltIn("default")).versions(),
            (ClientHello::List{0x0304, 0x0303}));
  EXPECT_EQ(HelloOf(BuiltIn("modern")).versions(), ClientHello::List{0x0304});
  EXPECT_EQ(HelloOf(BuiltIn("compatible")).versions(),
            (ClientHello::List{0x0304, 0x0303, 0x0302, 0x0301}));
  TlsProfile profile;
  profile.max_version = "1.2";
  // Before 1.3 there was no such extension.
  EXPECT_FALSE(HelloOf(profile).Has(kSupportedVersions));
}

TEST(TlsProfileTest, ListsAreOfferedAsTheyAreGiven) {
  TlsProfile profile;
  profile.ciphers = {"ECDHE-RSA-AES256-GCM-SHA384",
                     "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"};
  profile.max_version = "1.2";
  profile.groups = {"P-521", "X25519"};
  profile.signature_algorithms = {"rsa_pss_rsae_sha512",
                                  "ecdsa_secp384r1_sha384"};
  profile.alpn = {"http/1.1", "h2"};
  const ClientHello hello = HelloOf(profile);
  EXPECT_EQ(hello.ciphers(), (ClientHello::List{0xc030, 0xc02b}));
  EXPECT_EQ(hello.groups(), (ClientHello::List{25, 29}));
  EXPECT_EQ(hello.signature_algorithms(), (ClientHello::List{0x0806, 0x0503}));
  EXPECT_EQ(hello.alpn(), (Names{"http/1.1", "h2"}));
}

TEST(TlsProfileTest, ExtensionsAreThereWhenAskedFor) {
  const ClientHello plain = HelloOf(TlsProfile());
  for (const uint16_t type : {kStatusRequest, kCertificateTimestamp,
                              kEncryptedClientHello, kCompressCertificate}) {
    EXPECT_FALSE(plain.Has(type)) << type;
  }
  TlsProfile profile;
  profile.extra_extensions = {"status_request", "encrypted_client_hello",
                              "signed_certificate_timestamp"};
  profile.certificate_compression = {"zlib", "brotli"};
  const ClientHello hello = HelloOf(profile);
  EXPECT_TRUE(hello.Has(kStatusRequest));
  EXPECT_TRUE(hello.Has(kCertificateTimestamp));
  EXPECT_TRUE(hello.Has(kEncryptedClientHello));
  EXPECT_EQ(hello.compressions(), (ClientHello::List{1, 2}));
}

TEST(TlsProfileTest, TheBrowsersShapeIsTheBrowsers) {
  const ClientHello hello = HelloOf(BuiltIn("chromium"));
  ClientHello::List ciphers = hello.ciphers();
  std::erase_if(ciphers, IsGrease);
  // Those of TLS 1.3 come first, in an order that depends on the processor.
  ciphers.erase(ciphers.begin(), ciphers.begin() + 3);
  EXPECT_EQ(ciphers, (ClientHello::List{0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9,
                                        0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
                                        0x002f, 0x0035}));
  ClientHello::List groups = hello.groups();
  std::erase_if(groups, IsGrease);
  EXPECT_EQ(groups, (ClientHello::List{29, 23, 24}));
  EXPECT_EQ(hello.signature_algorithms(),
            (ClientHello::List{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501,
                               0x0806, 0x0601}));
  EXPECT_EQ(hello.alpn(), (Names{"h2", "http/1.1"}));
  EXPECT_EQ(hello.compressions(), ClientHello::List{2});
}

TEST(TlsProfileTest, WithoutTicketsNoneIsAskedFor) {
  TlsProfile profile;
  profile.session_tickets = false;
  EXPECT_FALSE(HelloOf(profile).Has(kSessionTicket));
}

struct BadProfile {
  void (*spoil)(TlsProfile*);
  const char* fault;
};

class BadTlsProfileTest : public ::testing::TestWithParam<BadProfile> {};

TEST_P(BadTlsProfileTest, IsRefusedWithTheKeyAndWhy) {
  TlsProfile profile;
  GetParam().spoil(&profile);
  EXPECT_EQ(Faults(profile), Names{GetParam().fault});
}

using P = TlsProfile;
INSTANTIATE_TEST_SUITE_P(
    Keys, BadTlsProfileTest,
    ::testing::Values(
        BadProfile{[](P* p) { p->min_version = "1.4"; },
                   "min_version: must be 1.0, 1.1, 1.2 or 1.3"},
        BadProfile{[](P* p) { p->max_version = ""; },
                   "max_version: must be 1.0, 1.1, 1.2 or 1.3"},
        BadProfile{
            [](P* p) {
              p->min_version = "1.3";
              p->max_version = "1.2";
            },
            "min_version: must not be above max_version (1.2), as 1.3 is"},
        BadProfile{[](P* p) {
                     p->ciphers = {"ECDHE-RSA-AES128-GCM-SHA256", "RC4-SHA"};
                   },
                   "ciphers[1]: is not the name of a suite of TLS 1.2 or older "
                   "that the library has: \"RC4-SHA\""},
        // Rules and the suites of 1.3 are not names.
        BadProfile{[](P* p) { p->ciphers = {"ALL"}; },
                   "ciphers[0]: is not the name of a suite of TLS 1.2 or older "
                   "that the library has: \"ALL\""},
        BadProfile{[](P* p) { p->ciphers = {"TLS_AES_128_GCM_SHA256"}; },
                   "ciphers[0]: is not the name of a suite of TLS 1.2 or older "
                   "that the library has: \"TLS_AES_128_GCM_SHA256\""},
        BadProfile{[](P* p) {
                     p->min_version = "1.3";
                     p->ciphers = {"AES128-SHA"};
                   },
                   "ciphers: have no meaning with min_version 1.3: its suites, "
                   "and their order, are the library's"},
        BadProfile{[](P* p) {
                     p->ciphers = {"AES128-SHA", "AES128-SHA"};
                   },
                   "ciphers[1]: given twice"},
        BadProfile{[](P* p) {
                     p->groups = {"P-256", "secp256k1"};
                   },
                   "groups[1]: must be X25519, P-256, P-384 or P-521; not "
                   "\"secp256k1\""},
        BadProfile{[](P* p) { p->signature_algorithms = {"dsa_sha1"}; },
                   "signature_algorithms[0]: is not one that the library has, "
                   "such as ecdsa_secp256r1_sha256 or rsa_pss_rsae_sha256: "
                   "\"dsa_sha1\""},
        BadProfile{[](P* p) {
                     p->alpn = {"h2", "h3"};
                   },
                   "alpn[1]: must be h2 or http/1.1"},
        BadProfile{[](P* p) { p->certificate_compression = {"zstd"}; },
                   "certificate_compression[0]: must be brotli or zlib"},
        BadProfile{[](P* p) {
                     p->max_version = "1.2";
                     p->certificate_compression = {"zlib"};
                   },
                   "certificate_compression: has no meaning below TLS 1.3"},
        BadProfile{[](P* p) { p->extra_extensions = {"padding"}; },
                   "extra_extensions[0]: must be status_request, "
                   "signed_certificate_timestamp or encrypted_client_hello; "
                   "not \"padding\""},
        BadProfile{[](P* p) { p->pins = {"sha256/AAAA"}; },
                   "pins[0]: must be sha256/ and the base64 of a "
                   "SubjectPublicKeyInfo's SHA-256, which has 44 characters"},
        BadProfile{[](P* p) { p->ca_file = "/no/ca.pem"; },
                   "ca_file: no authorities can be read from /no/ca.pem: "
                   "No such file or directory"}));

TEST(TlsProfileTest, BadFilesAreNamed) {
  const TestCa ca("profile");
  const auto one = ca.Issue("one", "DNS:one");
  const auto two = ca.Issue("two", "DNS:two");
  const std::string nonsense = TestDirectory() + "/nonsense.pem";
  WriteFile(nonsense, "-----BEGIN CERTIFICATE-----\nAAAA\n");
  TlsProfile profile;
  profile.cert_file = one.cert;
  profile.key_file = one.key;
  EXPECT_EQ(Faults(profile), Names());
  profile.key_file = two.key;
  EXPECT_EQ(Faults(profile),
            Names{"client_certificate: the key in " + two.key +
                  " does not fit the certificate in " + one.cert +
                  " (CERTIFICATE_AND_PRIVATE_KEY_MISMATCH)"});
  profile.key_file = "/no/key.pem";
  EXPECT_EQ(Faults(profile),
            Names{"client_certificate.key_file: /no/key.pem cannot be read: "
                  "No such file or directory"});
  profile.key_file = one.cert;
  EXPECT_EQ(Faults(profile),
            Names{"client_certificate.key_file: " + one.cert +
                  " has no private key in PEM without a passphrase"});
  profile.key_file = one.key;
  profile.cert_file = one.key;
  EXPECT_EQ(Faults(profile), Names{"client_certificate.cert_file: " + one.key +
                                   " has no certificate in PEM"});
  profile.cert_file = nonsense;
  EXPECT_EQ(Faults(profile), Names{"client_certificate.cert_file: " + nonsense +
                                   " has a certificate that does not parse"});
}

}  // namespace
}  // namespace hotline::net
