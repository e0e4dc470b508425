// The server's role in memory: against raw BoringSSL clients, Hotline's own
// client, and hand-made bytes.
#include <gtest/gtest.h>
#include <malloc.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "net/tls/server.h"
#include "net/tls/tls.h"
#include "tests/fakes/rows.h"
#include "tests/fakes/test_certs.h"
#include "tests/net/tls/tls_caller.h"

namespace hotline::net {
namespace {

using ::hotline::testing::CertFiles;
using ::hotline::testing::ReadFile;
using ::hotline::testing::TestCa;
using ::hotline::testing::TestDirectory;
using ::hotline::testing::WriteFile;

const TestCa& Ca() {
  static const auto* const ca = new TestCa("server-role");
  return *ca;
}

std::string CaKey() { return TestDirectory() + "/server-role.key"; }

const CertFiles& ServerCert() {
  static const auto* const files =
      new CertFiles(Ca().Issue("server", "DNS:a.example"));
  return *files;
}

const CertFiles& CallerCert() {
  static const auto* const files = new CertFiles(
      Ca().Issue("caller", "URI:spiffe://prod/ns/a,DNS:one.test,DNS:two.test"));
  return *files;
}

TlsServerPems Pems() {
  return {ReadFile(ServerCert().cert), ReadFile(ServerCert().key),
          ReadFile(Ca().cert())};
}

std::shared_ptr<const TlsServerContext> MakeContext(const TlsServerPems& pems) {
  std::vector<TlsFault> faults;
  auto context = TlsServerContext::Create(pems, &faults);
  for (const TlsFault& fault : faults) {
    ADD_FAILURE() << fault.key << " " << fault.text;
  }
  return context;
}

const std::shared_ptr<const TlsServerContext>& SharedContext() {
  static const auto* const context =
      new std::shared_ptr<const TlsServerContext>(MakeContext(Pems()));
  return *context;
}

std::unique_ptr<TlsServerEngine> MakeServer() {
  return TlsServerEngine::Create(SharedContext());
}

CallerOptions Caller(uint16_t version) {
  return {.min = version, .max = version, .cert = CallerCert()};
}

constexpr uint16_t kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

// Feeds `bytes` to the server, `piece` bytes at a time, until its handshake
// ends.
TlsResult Give(TlsServerEngine* server, std::string_view bytes,
               std::string* answer, size_t piece = 1 << 20) {
  TlsResult result = TlsResult::kWantInput;
  while (!bytes.empty() && result == TlsResult::kWantInput) {
    const std::string part(bytes.substr(0, piece));
    bytes.remove_prefix(part.size());
    server->Feed(part);
    result = server->Handshake(answer);
  }
  return result;
}

// Runs a handshake and returns its result for the server. Everything the server
// sent, an alert included, is delivered to the caller.
TlsResult Meet(TlsCaller* caller, TlsServerEngine* server,
               size_t piece = 1 << 20) {
  TlsResult result = TlsResult::kWantInput;
  std::string answer;
  for (int i = 0; i < 10 && result == TlsResult::kWantInput; ++i) {
    const std::string request = caller->Step(answer);
    answer.clear();
    result = Give(server, request, &answer, piece);
  }
  caller->Step(answer);
  return result;
}

// Appends the plain text in `bytes` to `plain`; returns the last result.
TlsResult ReadAll(TlsServerEngine* server, std::string_view bytes,
                  std::string* plain, std::string* answer) {
  server->Feed(bytes);
  char buffer[5000];
  size_t size = 0;
  TlsResult result;
  while ((result = server->Read(buffer, sizeof buffer, &size, answer)) ==
         TlsResult::kOk) {
    plain->append(buffer, size);
  }
  return result;
}

bssl::UniquePtr<EVP_PKEY> LoadKey(const std::string& path) {
  const std::string text = ReadFile(path);
  const bssl::UniquePtr<BIO> in(BIO_new_mem_buf(text.data(), text.size()));
  return bssl::UniquePtr<EVP_PKEY>(
      PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr));
}

bssl::UniquePtr<X509> LoadCertificate(const std::string& path) {
  const std::string text = ReadFile(path);
  const bssl::UniquePtr<BIO> in(BIO_new_mem_buf(text.data(), text.size()));
  return bssl::UniquePtr<X509>(
      PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
}

// A copy of the certificate, changed by `change` and signed with the key in
// `signer`; the key stays the same.
CertFiles Changed(const CertFiles& files, const std::string& name,
                  const std::function<void(X509*)>& change,
                  const std::string& signer = CaKey()) {
  const auto certificate = LoadCertificate(files.cert);
  change(certificate.get());
  const auto key = LoadKey(signer);
  EXPECT_GT(X509_sign(certificate.get(), key.get(), EVP_sha256()), 0);
  const bssl::UniquePtr<BIO> out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(out.get(), certificate.get());
  const uint8_t* data = nullptr;
  size_t size = 0;
  BIO_mem_contents(out.get(), &data, &size);
  const CertFiles changed{TestDirectory() + "/" + name + ".pem", files.key};
  WriteFile(changed.cert,
            std::string(reinterpret_cast<const char*>(data), size));
  return changed;
}

// "key text" of each.
std::vector<std::string> FaultsOf(const TlsServerPems& pems) {
  std::vector<TlsFault> faults;
  const auto context = TlsServerContext::Create(pems, &faults);
  EXPECT_EQ(context == nullptr, !faults.empty());
  std::vector<std::string> out;
  for (const TlsFault& fault : faults) {
    out.push_back(fault.key + " " + fault.text);
  }
  return out;
}

using Texts = std::vector<std::string>;

// Contexts.

TEST(TlsServerContextTest, KeyMustMatchTheFirstCertificate) {
  const CertFiles& other = CallerCert();
  EXPECT_EQ(FaultsOf(Pems()), Texts());
  TlsServerPems pems = Pems();
  pems.key = ReadFile(other.key);
  const Texts wrong_key = FaultsOf(pems);
  ASSERT_EQ(wrong_key.size(), 1u);
  EXPECT_TRUE(wrong_key[0].starts_with(
      "key_file is not the key of the first certificate in cert_file ("))
      << wrong_key[0];
  // Intermediates follow the leaf.
  pems = Pems();
  pems.certificates += ReadFile(Ca().cert());
  EXPECT_EQ(FaultsOf(pems), Texts());
  pems.certificates = ReadFile(Ca().cert()) + Pems().certificates;
  EXPECT_EQ(FaultsOf(pems).size(), 1u);
}

TEST(TlsServerContextTest, InvalidPemIsReportedByKey) {
  const TlsServerPems good = Pems();
  const std::string half = good.certificates.substr(0, 300);
  const std::string no_certificate = " has no certificate in PEM";
  const std::string broken = " has a certificate that does not parse";
  const std::string no_key =
      "key_file has no private key in PEM without a passphrase";
  const std::string& ca = good.client_ca;
  const struct {
    TlsServerPems pems;
    Texts faults;
  } cases[] = {
      {{"", good.key, ca}, {"cert_file" + no_certificate}},
      {{good.key, good.key, ca}, {"cert_file" + no_certificate}},
      {{half, good.key, ca}, {"cert_file" + broken}},
      {{good.certificates + half, good.key, ca}, {"cert_file" + broken}},
      {{good.certificates, "", ca}, {no_key}},
      {{good.certificates, good.certificates, ca}, {no_key}},
      {{good.certificates, good.key.substr(0, 100), ca}, {no_key}},
      {{good.certificates, good.key, ""}, {"client_ca_file" + no_certificate}},
      {{good.certificates, good.key, "hello"},
       {"client_ca_file" + no_certificate}},
      {{good.certificates, good.key, ca + half}, {"client_ca_file" + broken}},
      {{"", "", ""},
       {"cert_file" + no_certificate, no_key,
        "client_ca_file" + no_certificate}},
  };
  for (const auto& bad : cases) EXPECT_EQ(FaultsOf(bad.pems), bad.faults);
}

TEST(TlsServerContextTest, EncryptedKeyIsRefused) {
  const std::string path = TestDirectory() + "/encrypted.key";
  const std::string command = "openssl pkcs8 -topk8 -passout pass:x -in " +
                              ServerCert().key + " -out " + path;
  ASSERT_EQ(0, system(command.c_str()));
  TlsServerPems pems = Pems();
  pems.key = ReadFile(path);
  EXPECT_EQ(FaultsOf(pems),
            Texts{"key_file has no private key in PEM without a passphrase"});
}

TEST(TlsServerContextTest, WeakKeysAreRefused) {
  const auto with = [](const char* name, const char* key) {
    const CertFiles files = Ca().Issue(name, "DNS:a.example", {.key = key});
    TlsServerPems pems = Pems();
    pems.certificates = ReadFile(files.cert);
    pems.key = ReadFile(files.key);
    return FaultsOf(pems);
  };
  EXPECT_EQ(with("rsa1024", "rsa:1024"),
            Texts{"key_file has an RSA key shorter than 2048 bits"});
  EXPECT_EQ(with("p224", "ec -pkeyopt ec_paramgen_curve:P-224"),
            Texts{"key_file has an EC key shorter than 256 bits"});
  EXPECT_EQ(with("rsa2048", "rsa:2048"), Texts());
  EXPECT_EQ(with("p384", "ec -pkeyopt ec_paramgen_curve:P-384"), Texts());
  EXPECT_EQ(with("ed25519", "ed25519"), Texts());
}

TEST(TlsServerContextTest, DatesAreReportedButNotChecked) {
  const auto context = MakeContext(Pems());
  const int64_t now = time(nullptr);
  EXPECT_NEAR(context->not_before(), now, 3600);
  EXPECT_NEAR(context->not_after(), now + 7 * 86400, 3600);
  const CertFiles old = Ca().IssueExpired("old-server", "DNS:a.example");
  TlsServerPems pems = Pems();
  pems.certificates = ReadFile(old.cert);
  pems.key = ReadFile(old.key);
  EXPECT_LT(MakeContext(pems)->not_after(), now);
}

// Successful handshakes.

class TlsServerTest : public ::testing::TestWithParam<uint16_t> {};

INSTANTIATE_TEST_SUITE_P(Versions, TlsServerTest,
                         ::testing::ValuesIn(kVersions), [](const auto& info) {
                           return info.param == TLS1_3_VERSION ? "Tls13"
                                                               : "Tls12";
                         });

TEST_P(TlsServerTest, OwnClientAndServerConnect) {
  TlsProfile profile;
  profile.cert_file = CallerCert().cert;
  profile.key_file = CallerCert().key;
  profile.max_version = GetParam() == TLS1_3_VERSION ? "1.3" : "1.2";
  std::string error;
  std::vector<TlsFault> faults;
  const auto client = TlsEngine::Create(
      TlsContext::Create(profile, TlsAuthorities::Load(Ca().cert(), &error),
                         nullptr, 0, &faults),
      "a.example", {"h2"});
  const auto server = MakeServer();
  std::string to_server;
  std::string to_client;
  TlsResult client_result = client->Handshake(&to_server);
  TlsResult server_result = TlsResult::kWantInput;
  while (server_result == TlsResult::kWantInput) {
    const std::string request = std::move(to_server);
    to_server.clear();
    server_result = Give(server.get(), request, &to_client);
    const std::string answer = std::move(to_client);
    to_client.clear();
    client->Feed(answer);
    if (client_result == TlsResult::kWantInput) {
      client_result = client->Handshake(&to_server);
    }
  }
  EXPECT_EQ(client_result, TlsResult::kOk) << client->error();
  EXPECT_EQ(server_result, TlsResult::kOk) << server->error();
  const TlsFacts facts = server->facts();
  EXPECT_EQ(facts.version,
            GetParam() == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
  EXPECT_EQ(facts.cipher, client->facts().cipher);
  EXPECT_EQ(facts.alpn, "h2");
  EXPECT_FALSE(facts.resumed);
  EXPECT_NEAR(facts.not_after, time(nullptr) + 7 * 86400, 3600);
  EXPECT_EQ(server->failure(), TlsFailure::kNone);
  EXPECT_EQ(server->error(), "");

  ASSERT_TRUE(client->Write("ping", &to_server));
  std::string plain;
  EXPECT_EQ(ReadAll(server.get(), to_server, &plain, &to_client),
            TlsResult::kWantInput);
  EXPECT_EQ(plain, "ping");
  ASSERT_TRUE(server->Write("pong", &to_client));
  client->Feed(to_client);
  char buffer[16];
  size_t size = 0;
  EXPECT_EQ(client->Read(buffer, sizeof buffer, &size, &to_server),
            TlsResult::kOk);
  EXPECT_EQ(std::string(buffer, size), "pong");
}

TEST_P(TlsServerTest, PeerNamesComeFromTheCertificate) {
  TlsCaller caller(Caller(GetParam()));
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk) << server->error();
  const TlsPeerNames names = server->TakePeerNames();
  EXPECT_EQ(names.uris, Texts{"spiffe://prod/ns/a"});
  EXPECT_EQ(names.dns_names, (Texts{"one.test", "two.test"}));
  EXPECT_EQ(names.common_name, "caller");
}

TEST_P(TlsServerTest, NamesWithNulsAreNotTruncated) {
  CallerOptions options = Caller(GetParam());
  // dNSName "a\0.b", URI "u:\0x".
  options.cert = Ca().Issue("nul", "DER:300c820461002e628604753a0078");
  TlsCaller caller(options);
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk) << server->error();
  const TlsPeerNames names = server->TakePeerNames();
  EXPECT_EQ(names.dns_names, Texts{std::string("a\0.b", 4)});
  EXPECT_EQ(names.uris, Texts{std::string("u:\0x", 4)});
}

TEST_P(TlsServerTest, OtherKeyTypesAndIntermediatesAreAccepted) {
  static const CertFiles good[] = {
      Ca().Intermediate("below", {}).Issue("deep", "DNS:deep"),
      Ca().Issue("rsa", "DNS:rsa", {.key = "rsa:2048"}),
      Ca().Issue("p521", "DNS:p521",
                 {.key = "ec -pkeyopt ec_paramgen_curve:P-521"}),
      Ca().Issue("ed", "DNS:ed", {.key = "ed25519"})};
  for (const CertFiles& files : good) {
    CallerOptions options = Caller(GetParam());
    options.cert = files;
    TlsCaller caller(options);
    const auto server = MakeServer();
    EXPECT_EQ(Meet(&caller, server.get()), TlsResult::kOk)
        << files.cert << ": " << server->error();
  }
}

TEST_P(TlsServerTest, ClientCaMayBeAnIntermediate) {
  const TestCa below = Ca().Intermediate("issuing", {});
  TlsServerPems pems = Pems();
  pems.client_ca = ReadFile(below.cert());
  const auto context = MakeContext(pems);
  CallerOptions options = Caller(GetParam());
  options.cert = below.Issue("x", "DNS:x");
  TlsCaller caller(options);
  const auto server = TlsServerEngine::Create(context);
  EXPECT_EQ(Meet(&caller, server.get()), TlsResult::kOk) << server->error();
  // Certificates issued by the root above it are not accepted.
  TlsCaller other(Caller(GetParam()));
  const auto refusing = TlsServerEngine::Create(context);
  EXPECT_EQ(Meet(&other, refusing.get()), TlsResult::kVerifyFailed);
  EXPECT_EQ(refusing->failure(), TlsFailure::kUnknownCa);
}

TEST_P(TlsServerTest, AcceptableCaNamesAreSentUnlessTooMany) {
  for (const size_t times : {1, 1000}) {
    TlsServerPems pems = Pems();
    const std::string once = pems.client_ca;
    for (size_t i = 1; i < times; ++i) pems.client_ca += once;
    TlsCaller caller(Caller(GetParam()));
    const auto server = TlsServerEngine::Create(MakeContext(pems));
    size_t seen = 99;
    SSL_set_cert_cb(
        caller.ssl(),
        [](SSL* ssl, void* out) {
          *static_cast<size_t*>(out) =
              sk_CRYPTO_BUFFER_num(SSL_get0_server_requested_CAs(ssl));
          return 1;
        },
        &seen);
    EXPECT_EQ(Meet(&caller, server.get()), TlsResult::kOk) << server->error();
    // A list over the limit is not sent.
    EXPECT_EQ(seen, times == 1 ? 1u : 0u);
  }
}

TEST_P(TlsServerTest, HandshakeInPiecesSucceeds) {
  for (const size_t piece : {1, 2, 3, 7, 100}) {
    TlsCaller caller(Caller(GetParam()));
    const auto server = MakeServer();
    EXPECT_EQ(Meet(&caller, server.get(), piece), TlsResult::kOk) << piece;
    EXPECT_TRUE(caller.connected());
  }
}

TEST_P(TlsServerTest, LargeWritesArriveInOrder) {
  TlsCaller caller(Caller(GetParam()));
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk);
  std::string much(5 << 20, '\0');
  for (size_t i = 0; i < much.size(); ++i) {
    much[i] = static_cast<char>(i * 31 >> 7);
  }
  std::string out;
  ASSERT_TRUE(server->Write(much, &out));
  EXPECT_GT(out.size(), much.size());
  EXPECT_LT(out.size(), much.size() + much.size() / 50);
  caller.Step(out);
  EXPECT_EQ(caller.received(), much);

  std::string plain;
  std::string answer;
  const std::string bytes = caller.Write(much);
  EXPECT_EQ(ReadAll(server.get(), bytes, &plain, &answer),
            TlsResult::kWantInput);
  EXPECT_EQ(plain, much);
  EXPECT_EQ(answer, "");
  ASSERT_TRUE(server->Write("", &answer));
  EXPECT_EQ(answer, "");
}

TEST_P(TlsServerTest, PartialRecordsAreBuffered) {
  TlsCaller caller(Caller(GetParam()));
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk);
  const std::string bytes = caller.Write("hello");
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string plain;
    std::string answer;
    EXPECT_EQ(ReadAll(server.get(), bytes.substr(i, 1), &plain, &answer),
              TlsResult::kWantInput);
    EXPECT_EQ(plain, i + 1 == bytes.size() ? "hello" : "");
  }
}

TEST_P(TlsServerTest, CloseNotifyIsSeenByBothSides) {
  TlsCaller caller(Caller(GetParam()));
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk);
  std::string plain;
  std::string answer;
  const std::string last = caller.Write("last");
  EXPECT_EQ(ReadAll(server.get(), last + caller.Shutdown(), &plain, &answer),
            TlsResult::kClosed);
  EXPECT_EQ(plain, "last");
  EXPECT_EQ(server->failure(), TlsFailure::kNone);
  server->Shutdown(&answer);
  caller.Step(answer);
  EXPECT_TRUE(caller.closed());
}

TEST(TlsServerKeysTest, KeyUpdateIsAnswered) {
  TlsCaller caller(Caller(TLS1_3_VERSION));
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk);
  ASSERT_EQ(1, SSL_key_update(caller.ssl(), SSL_KEY_UPDATE_REQUESTED));
  std::string plain;
  std::string answer;
  EXPECT_EQ(ReadAll(server.get(), caller.Write("new keys"), &plain, &answer),
            TlsResult::kWantInput);
  EXPECT_EQ(plain, "new keys");
  ASSERT_TRUE(server->Write("mine too", &answer));
  caller.Step(answer);
  EXPECT_EQ(caller.received(), "mine too");
}

// Failures by cause: the rows of refusals.tsv.

struct Refusal {
  std::string name;
  std::string failure;  // TlsFailureName.
  TlsResult result;
  std::string alert12;
  std::string alert13;  // Empty: does not apply to TLS 1.3.
  std::string error;    // Empty: any.
};

std::vector<Refusal> Refusals() {
  const std::map<std::string, TlsResult> results = {
      {"verify_failed", TlsResult::kVerifyFailed},
      {"no_protocol", TlsResult::kNoProtocol},
      {"failed", TlsResult::kFailed},
  };
  std::vector<Refusal> refusals;
  for (const auto& row :
       testing::ReadRows("tests/net/tls/refusals.tsv", 6, 15)) {
    const auto result = results.find(row[2]);
    if (result == results.end()) {
      ADD_FAILURE() << "no result: " << row[2];
      continue;
    }
    refusals.push_back(
        {row[0], row[1], result->second, row[3], row[4], row[5]});
  }
  return refusals;
}

void SetPurpose(X509* certificate, int nid) {
  const int at = X509_get_ext_by_NID(certificate, NID_ext_key_usage, -1);
  X509_EXTENSION_free(X509_delete_ext(certificate, at));
  EXTENDED_KEY_USAGE* const usage = sk_ASN1_OBJECT_new_null();
  sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(nid));
  X509_add1_ext_i2d(certificate, NID_ext_key_usage, usage, 0, 0);
  EXTENDED_KEY_USAGE_free(usage);
}

// Signed with the key of a certificate that is not a CA.
CertFiles IssuedByALeaf() {
  const auto leaf = LoadCertificate(CallerCert().cert);
  const CertFiles files = Changed(
      Ca().Issue("by-leaf", "DNS:x"), "by-leaf",
      [&](X509* certificate) {
        const int at =
            X509_get_ext_by_NID(certificate, NID_authority_key_identifier, -1);
        X509_EXTENSION_free(X509_delete_ext(certificate, at));
        X509_set_issuer_name(certificate, X509_get_subject_name(leaf.get()));
      },
      CallerCert().key);
  WriteFile(files.cert, ReadFile(files.cert) + ReadFile(CallerCert().cert));
  return files;
}

CertFiles RefusedCert(const std::string& name) {
  const testing::CertStrength sha1 = {
      .key = "ec -pkeyopt ec_paramgen_curve:P-256", .digest = "sha1"};
  const testing::CertStrength short_rsa = {.key = "rsa:1024",
                                           .digest = "sha256"};
  if (name == "NoCertificate") return {};
  if (name == "Expired") return Ca().IssueExpired("expired", "DNS:x");
  if (name == "NotYetValid") {
    return Changed(CallerCert(), "early", [](X509* certificate) {
      X509_gmtime_adj(X509_getm_notBefore(certificate), 3600);
    });
  }
  if (name == "Foreign") return TestCa("stranger").Issue("x", "DNS:x");
  if (name == "SelfSigned") return Ca().SelfSigned("self", "DNS:x");
  if (name == "ForServersOnly") {
    return Changed(CallerCert(), "server-only", [](X509* certificate) {
      SetPurpose(certificate, NID_server_auth);
    });
  }
  if (name == "Sha1") return Ca().Issue("sha1", "DNS:x", sha1);
  if (name == "ShortRsa") return Ca().Issue("short", "DNS:x", short_rsa);
  if (name == "WeakIntermediate") {
    return Ca().Intermediate("weak", short_rsa).Issue("x", "DNS:x");
  }
  if (name == "IssuedByALeaf") return IssuedByALeaf();
  if (name == "NamesThatDoNotParse") {
    return Ca().Issue("garbled", "DER:3004820561");
  }
  ADD_FAILURE() << "no such caller: " << name;
  return {};
}

// Turns an acceptable caller into the one of the row.
void Spoil(const std::string& name, CallerOptions* options) {
  if (name == "OldVersion") {
    options->min = TLS1_VERSION;
    options->max = TLS1_1_VERSION;
  } else if (name == "OldSuites") {
    options->ciphers = "ECDHE-ECDSA-AES128-SHA:AES128-GCM-SHA256";
  } else if (name == "OtherProtocols") {
    options->alpn = "\x08http/1.1\x06spdy/1";
  } else if (name == "NoProtocols") {
    options->alpn = "";
  } else {
    options->cert = RefusedCert(name);
  }
}

void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.name;
}

class TlsRefusalTest : public ::testing::TestWithParam<Refusal> {};

INSTANTIATE_TEST_SUITE_P(Causes, TlsRefusalTest,
                         ::testing::ValuesIn(Refusals()),
                         [](const auto& info) { return info.param.name; });

TEST_P(TlsRefusalTest, HasItsCauseAndAlert) {
  const Refusal& refusal = GetParam();
  for (const uint16_t version : kVersions) {
    const bool new_version = version == TLS1_3_VERSION;
    if (new_version && refusal.alert13.empty()) continue;
    CallerOptions options = Caller(version);
    Spoil(refusal.name, &options);
    TlsCaller caller(options);
    const auto server = MakeServer();
    EXPECT_EQ(Meet(&caller, server.get()), refusal.result) << server->error();
    EXPECT_EQ(TlsFailureName(server->failure()), refusal.failure)
        << server->error();
    if (!refusal.error.empty()) {
      EXPECT_EQ(server->error(), refusal.error);
    }
    EXPECT_NE(server->error(), "");
    EXPECT_EQ(SSL_alert_desc_string_long(caller.alert()),
              new_version ? refusal.alert13 : refusal.alert12);
    // The result does not change afterwards.
    std::string out;
    EXPECT_EQ(server->Handshake(&out), refusal.result);
    EXPECT_EQ(TlsFailureName(server->failure()), refusal.failure);
    EXPECT_EQ(out, "");
  }
}

TEST_P(TlsServerTest, ExpiredIntermediateIsReportedWithItsDepth) {
  // An expired intermediate between a valid root and a valid leaf.
  const TestCa below = Ca().Intermediate("over", {});
  const CertFiles good = below.Issue("y", "DNS:y");
  const CertFiles expired =
      Changed({below.cert(), ""}, "over-expired", [](X509* certificate) {
        X509_gmtime_adj(X509_getm_notAfter(certificate), -3600);
      });
  const std::string own = ReadFile(good.cert);
  const std::string end = "-----END CERTIFICATE-----\n";
  const std::string path = TestDirectory() + "/over-chain.pem";
  WriteFile(path,
            own.substr(0, own.find(end) + end.size()) + ReadFile(expired.cert));
  CallerOptions options = Caller(GetParam());
  options.cert = {path, good.key};
  TlsCaller caller(options);
  const auto server = MakeServer();
  EXPECT_EQ(Meet(&caller, server.get()), TlsResult::kVerifyFailed);
  EXPECT_EQ(server->failure(), TlsFailure::kExpired);
  EXPECT_EQ(server->error(),
            "the chain of the caller's certificate is refused at depth 1: "
            "certificate has expired");
}

TEST_P(TlsServerTest, CertificateWithoutItsKeyIsRefused) {
  static EVP_PKEY* const stolen_for =
      LoadKey(Ca().Issue("thief", "DNS:thief").key).release();
  static const SSL_PRIVATE_KEY_METHOD sign = {
      [](SSL*, uint8_t* out, size_t* size, size_t capacity, uint16_t,
         const uint8_t* in, size_t in_size) {
        bssl::ScopedEVP_MD_CTX ctx;
        *size = capacity;
        const bool signed_it =
            EVP_DigestSignInit(ctx.get(), nullptr, EVP_sha256(), nullptr,
                               stolen_for) &&
            EVP_DigestSign(ctx.get(), out, size, in, in_size);
        return signed_it ? ssl_private_key_success : ssl_private_key_failure;
      },
      nullptr, nullptr};
  CallerOptions options = Caller(GetParam());
  options.cert = {};
  TlsCaller caller(options);
  ASSERT_EQ(1, SSL_use_certificate_file(caller.ssl(), CallerCert().cert.c_str(),
                                        SSL_FILETYPE_PEM));
  SSL_set_private_key_method(caller.ssl(), &sign);
  const auto server = MakeServer();
  EXPECT_EQ(Meet(&caller, server.get()), TlsResult::kVerifyFailed);
  EXPECT_EQ(server->failure(), TlsFailure::kBadCertificate);
  EXPECT_EQ(server->error(),
            "the caller did not prove that it holds its certificate's key");
  EXPECT_EQ(caller.alert(), SSL_AD_DECRYPT_ERROR);
}

TEST_P(TlsServerTest, OversizedChainIsRefused) {
  std::string chain = ReadFile(CallerCert().cert);
  const std::string more = ReadFile(Ca().cert());
  for (int i = 0; i < 200; ++i) chain += more;
  const std::string path = TestDirectory() + "/endless.pem";
  WriteFile(path, chain);
  CallerOptions options = Caller(GetParam());
  options.cert.cert = path;
  TlsCaller caller(options);
  const auto server = MakeServer();
  EXPECT_EQ(Meet(&caller, server.get()), TlsResult::kFailed);
  EXPECT_EQ(server->failure(), TlsFailure::kOther) << server->error();
}

TEST_P(TlsServerTest, AlertDuringHandshakeIsNamed) {
  // A client that trusts no authority.
  TlsProfile profile;
  profile.max_version = GetParam() == TLS1_3_VERSION ? "1.3" : "1.2";
  std::vector<TlsFault> faults;
  const auto client = TlsEngine::Create(
      TlsContext::Create(profile, TlsAuthorities::None(), nullptr, 0, &faults),
      "a.example", {"h2"});
  const auto server = MakeServer();
  std::string to_server;
  std::string to_client;
  client->Handshake(&to_server);
  EXPECT_EQ(Give(server.get(), to_server, &to_client), TlsResult::kWantInput);
  to_server.clear();
  client->Feed(to_client);
  EXPECT_EQ(client->Handshake(&to_server), TlsResult::kVerifyFailed);
  EXPECT_EQ(Give(server.get(), to_server, &to_client), TlsResult::kFailed);
  EXPECT_EQ(server->failure(), TlsFailure::kAlert);
  EXPECT_EQ(server->error(), "the caller sent the alert \"unknown CA\"");
}

TEST_P(TlsServerTest, AlertAfterHandshakeIsNamed) {
  TlsCaller caller(Caller(GetParam()));
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk);
  SSL_send_fatal_alert(caller.ssl(), SSL_AD_INTERNAL_ERROR);
  std::string plain;
  std::string answer;
  EXPECT_EQ(ReadAll(server.get(), caller.Write(""), &plain, &answer),
            TlsResult::kFailed);
  EXPECT_EQ(server->failure(), TlsFailure::kAlert);
  EXPECT_EQ(server->error(), "the caller sent the alert \"internal error\"");
}

// Hand-made bytes.

TEST(TlsServerBytesTest, PlainTextIsRecognized) {
  const struct {
    const char* bytes;
    const char* error;
  } cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", "the caller speaks plain HTTP/1.1, not TLS"},
      {"POST /hotline.v1.Broker/Execute HTTP/1.1\r\n\r\n",
       "the caller speaks plain HTTP/1.1, not TLS"},
      {"CONNECT a:1 HTTP/1.1\r\n\r\n",
       "the caller speaks plain HTTP/1.1 to a proxy, not TLS"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
       "the caller speaks plain HTTP/2, not TLS"},
      {"SSH-2.0-OpenSSH_9.2\r\n", "the caller does not speak TLS"},
      {"\x01\x02\x03\x04\x05\x06\x07", "the caller does not speak TLS"},
      {"\x16hello hello", "the caller does not speak TLS"},
      {"\xff\xff\xff\xff\xff\xff", "the caller does not speak TLS"},
  };
  for (const auto& bad : cases) {
    for (const size_t piece : {1, 3, 100}) {
      const auto server = MakeServer();
      std::string answer;
      EXPECT_EQ(Give(server.get(), bad.bytes, &answer, piece),
                TlsResult::kFailed);
      EXPECT_EQ(server->failure(), TlsFailure::kNotTls) << server->error();
      EXPECT_EQ(server->error(), bad.error);
    }
  }
}

TEST(TlsServerBytesTest, SilentCallerGetsNoAnswer) {
  const auto server = MakeServer();
  std::string answer;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(server->Handshake(&answer), TlsResult::kWantInput);
  }
  EXPECT_EQ(answer, "");
  EXPECT_EQ(server->failure(), TlsFailure::kNone);
}

TEST(TlsServerBytesTest, CloseDuringHandshakeIsNoSuccess) {
  for (const uint16_t version : kVersions) {
    TlsCaller caller(Caller(version));
    const auto server = MakeServer();
    std::string answer;
    ASSERT_EQ(Give(server.get(), caller.Step(""), &answer),
              TlsResult::kWantInput);
    // close_notify in plain text.
    const TlsResult result =
        Give(server.get(), std::string_view("\x15\x03\x03\x00\x02\x01\x00", 7),
             &answer);
    EXPECT_TRUE(result == TlsResult::kClosed || result == TlsResult::kFailed)
        << static_cast<int>(result);
  }
}

TEST(TlsServerBytesTest, CorruptedHelloNeverSucceeds) {
  for (const uint16_t version : kVersions) {
    TlsCaller caller(Caller(version));
    const std::string hello = caller.Step("");
    for (size_t i = 0; i < hello.size(); ++i) {
      for (const int flip : {0x01, 0x80, 0xff}) {
        std::string bad = hello;
        bad[i] = static_cast<char>(bad[i] ^ flip);
        const auto server = MakeServer();
        std::string answer;
        const TlsResult result = Give(server.get(), bad, &answer);
        EXPECT_NE(result, TlsResult::kOk);
        EXPECT_EQ(server->failure() == TlsFailure::kNone,
                  result == TlsResult::kWantInput);
        EXPECT_EQ(server->error().empty(), result == TlsResult::kWantInput);
      }
    }
  }
}

// The offsets in `flight` of the second byte of a record's version, which no
// signature covers and receivers may ignore (RFC 5246 appendix E.1, RFC 8446
// 5.1).
std::set<size_t> MinorVersions(std::string_view flight) {
  std::set<size_t> offsets;
  for (size_t at = 0; at + 5 <= flight.size();) {
    offsets.insert(at + 2);
    at += 5 + static_cast<uint8_t>(flight[at + 3]) * 256 +
          static_cast<uint8_t>(flight[at + 4]);
  }
  return offsets;
}

TEST_P(TlsServerTest, CorruptedSecondFlightNeverSucceeds) {
  for (size_t i = 0;; ++i) {
    TlsCaller caller(Caller(GetParam()));
    const auto server = MakeServer();
    std::string answer;
    ASSERT_EQ(Give(server.get(), caller.Step(""), &answer),
              TlsResult::kWantInput);
    std::string finish = caller.Step(answer);
    if (i >= finish.size()) break;
    if (MinorVersions(finish).contains(i)) continue;
    finish[i] = static_cast<char>(finish[i] ^ 0x55);
    answer.clear();
    const TlsResult result = Give(server.get(), finish, &answer);
    EXPECT_NE(result, TlsResult::kOk) << i;
    EXPECT_NE(server->failure(), TlsFailure::kNotTls) << i;
  }
}

TEST_P(TlsServerTest, GarbageAfterHandshakeEndsTheConnection) {
  const std::string_view garbage[] = {
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      std::string_view("\x17\x03\x03\x00\x20"
                       "01234567890123456789012345678901",
                       37)};
  for (const std::string_view bytes : garbage) {
    TlsCaller caller(Caller(GetParam()));
    const auto server = MakeServer();
    ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk);
    std::string plain;
    std::string answer;
    EXPECT_EQ(ReadAll(server.get(), bytes, &plain, &answer),
              TlsResult::kFailed);
    EXPECT_EQ(plain, "");
    EXPECT_EQ(server->failure(), TlsFailure::kOther) << server->error();
    caller.Step(answer);
    EXPECT_NE(caller.alert(), 0);
    EXPECT_FALSE(server->Write("more", &answer));
  }
}

// Sessions.

TEST_P(TlsServerTest, NoSessionIsIssued) {
  TlsCaller caller(Caller(GetParam()));
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk);
  std::string out;
  ASSERT_TRUE(server->Write("x", &out));
  caller.Step(out);
  ASSERT_EQ(caller.received(), "x");
  EXPECT_EQ(caller.session(), nullptr);
}

// A session that another server issued to a caller.
bssl::UniquePtr<SSL_SESSION> ForeignSession(uint16_t version) {
  const bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_method()));
  SSL_CTX_use_certificate_chain_file(ctx.get(), ServerCert().cert.c_str());
  SSL_CTX_use_PrivateKey_file(ctx.get(), ServerCert().key.c_str(),
                              SSL_FILETYPE_PEM);
  const bssl::UniquePtr<SSL> other(SSL_new(ctx.get()));
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(other.get(), in, out);
  SSL_set_accept_state(other.get());
  TlsCaller caller(Caller(version));
  std::string answer;
  for (int i = 0; i < 5; ++i) {
    const std::string request = caller.Step(answer);
    if (!request.empty()) {
      BIO_write(in, request.data(), static_cast<int>(request.size()));
    }
    // Tickets are sent with the first data.
    if (SSL_do_handshake(other.get()) == 1) SSL_write(other.get(), "x", 1);
    const uint8_t* data = nullptr;
    size_t size = 0;
    BIO_mem_contents(out, &data, &size);
    answer.assign(reinterpret_cast<const char*>(data), size);
    BIO_reset(out);
  }
  return bssl::UpRef(caller.session());
}

TEST_P(TlsServerTest, OfferedSessionIsIgnored) {
  const auto session = ForeignSession(GetParam());
  ASSERT_NE(session, nullptr);
  CallerOptions options = Caller(GetParam());
  options.session = session.get();
  TlsCaller caller(options);
  const auto server = MakeServer();
  ASSERT_EQ(Meet(&caller, server.get()), TlsResult::kOk) << server->error();
  EXPECT_FALSE(server->facts().resumed);
  EXPECT_FALSE(SSL_session_reused(caller.ssl()));
  EXPECT_EQ(server->TakePeerNames().uris, Texts{"spiffe://prod/ns/a"});
  // It does not stand in for a certificate.
  options.cert = {};
  TlsCaller bare(options);
  const auto refusing = MakeServer();
  EXPECT_EQ(Meet(&bare, refusing.get()), TlsResult::kVerifyFailed);
  EXPECT_EQ(refusing->failure(), TlsFailure::kNoCertificate);
}

// Exchange.

TEST_P(TlsServerTest, OpenConnectionsKeepTheirContext) {
  const TestCa other("next-ca");
  const CertFiles fresh = other.Issue("next", "DNS:a.example");
  const TlsServerPems next = {ReadFile(fresh.cert), ReadFile(fresh.key),
                              ReadFile(other.cert())};
  TlsServerContextHolder holder(MakeContext(Pems()));
  const std::weak_ptr<const TlsServerContext> before = holder.current();
  TlsCaller open(Caller(GetParam()));
  auto open_server = TlsServerEngine::Create(holder.current());
  ASSERT_EQ(Meet(&open, open_server.get()), TlsResult::kOk);
  EXPECT_EQ(open.ServersName(), "server");
  // A handshake that has begun.
  TlsCaller halfway(Caller(GetParam()));
  auto halfway_server = TlsServerEngine::Create(holder.current());
  std::string answer;
  ASSERT_EQ(Give(halfway_server.get(), halfway.Step(""), &answer),
            TlsResult::kWantInput);

  holder.Exchange(MakeContext(next));
  std::string second;
  EXPECT_EQ(Give(halfway_server.get(), halfway.Step(answer), &second),
            TlsResult::kOk);
  std::string plain;
  EXPECT_EQ(
      ReadAll(open_server.get(), open.Write("still here"), &plain, &answer),
      TlsResult::kWantInput);
  EXPECT_EQ(plain, "still here");

  // New connections get the new certificate and the new client CA.
  TlsCaller stale(Caller(GetParam()));
  auto refusing = TlsServerEngine::Create(holder.current());
  EXPECT_EQ(Meet(&stale, refusing.get()), TlsResult::kVerifyFailed);
  EXPECT_EQ(refusing->failure(), TlsFailure::kUnknownCa);
  EXPECT_EQ(stale.ServersName(), "next");
  CallerOptions options = Caller(GetParam());
  options.cert = other.Issue("new-caller", "DNS:new");
  TlsCaller fits(options);
  auto server = TlsServerEngine::Create(holder.current());
  EXPECT_EQ(Meet(&fits, server.get()), TlsResult::kOk) << server->error();

  // The old context is freed with its last connection.
  EXPECT_FALSE(before.expired());
  open_server.reset();
  halfway_server.reset();
  EXPECT_TRUE(before.expired());
}

// Memory: printed, not checked.

TEST_P(TlsServerTest, PrintsMemoryOfIdleEngines) {
  constexpr int kEngines = 500;
  const auto in_use = [] { return mallinfo2().uordblks; };
  std::vector<std::unique_ptr<TlsServerEngine>> silent(kEngines);
  const size_t start = in_use();
  for (auto& engine : silent) {
    engine = MakeServer();
    std::string out;
    engine->Handshake(&out);
  }
  const size_t waiting = in_use();
  for (auto& engine : silent) {
    TlsCaller caller(Caller(GetParam()));
    std::string out;
    Give(engine.get(), caller.Step(""), &out);
  }
  const size_t half = in_use();
  silent.clear();
  std::vector<std::unique_ptr<TlsServerEngine>> engines(kEngines);
  const size_t before = in_use();
  for (auto& engine : engines) {
    engine = MakeServer();
    TlsCaller caller(Caller(GetParam()));
    ASSERT_EQ(Meet(&caller, engine.get()), TlsResult::kOk);
    engine->TakePeerNames();
    std::string plain;
    std::string answer;
    ReadAll(engine.get(), caller.Write(std::string(10000, 'x')), &plain,
            &answer);
    ASSERT_TRUE(engine->Write(plain, &answer));
  }
  const size_t after = in_use();
  std::printf("bytes of an engine: %zu new, %zu in the handshake, %zu idle\n",
              (waiting - start) / kEngines, (half - start) / kEngines,
              (after - before) / kEngines);
}

}  // namespace
}  // namespace hotline::net
