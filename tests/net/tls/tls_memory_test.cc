// Handshakes in memory with a server by the same library, which can do what
// other servers in reach cannot: compress its certificate, and invite to early
// data.
#include <brotli/encode.h>
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/bytestring.h>
#include <openssl/ssl.h>
#include <zlib.h>

#include <string>
#include <vector>

#include "net/tls/tls.h"
#include "tests/fakes/test_certs.h"
#include "tests/net/tls/client_hello.h"

namespace hotline::net {
namespace {

using ::hotline::testing::CertFiles;
using ::hotline::testing::TestCa;

const TestCa& Ca() {
  static const auto* const ca = new TestCa("memory");
  return *ca;
}

enum class Packing { kGood, kCutShort, kTooLong, kNonsense };

// What the server does with its certificate.
Packing packing = Packing::kGood;
int packed = 0;

int Pack(CBB* out, std::string data) {
  ++packed;
  if (packing == Packing::kCutShort) data.resize(data.size() / 2);
  if (packing == Packing::kNonsense) data.assign(data.size(), 'x');
  return CBB_add_bytes(out, reinterpret_cast<const uint8_t*>(data.data()),
                       data.size());
}

// As it should be, or with a byte more than was announced.
std::string Plain(const uint8_t* in, size_t size) {
  std::string plain(reinterpret_cast<const char*>(in), size);
  if (packing == Packing::kTooLong) plain.push_back('x');
  return plain;
}

int PackBrotli(SSL*, CBB* out, const uint8_t* in, size_t in_size) {
  const std::string plain = Plain(in, in_size);
  std::string data(BrotliEncoderMaxCompressedSize(plain.size()), '\0');
  size_t size = data.size();
  if (!BrotliEncoderCompress(BROTLI_DEFAULT_QUALITY, BROTLI_DEFAULT_WINDOW,
                             BROTLI_MODE_GENERIC, plain.size(),
                             reinterpret_cast<const uint8_t*>(plain.data()),
                             &size, reinterpret_cast<uint8_t*>(data.data()))) {
    return 0;
  }
  data.resize(size);
  return Pack(out, std::move(data));
}

int PackZlib(SSL*, CBB* out, const uint8_t* in, size_t in_size) {
  const std::string plain = Plain(in, in_size);
  std::string data(compressBound(plain.size()), '\0');
  uLongf size = data.size();
  if (compress(reinterpret_cast<Bytef*>(data.data()), &size,
               reinterpret_cast<const Bytef*>(plain.data()),
               plain.size()) != Z_OK) {
    return 0;
  }
  data.resize(size);
  return Pack(out, std::move(data));
}

class TlsMemoryTest : public ::testing::Test {
 protected:
  TlsMemoryTest() : server_ctx_(SSL_CTX_new(TLS_method())) {
    static const CertFiles cert = Ca().Issue("a", "DNS:a.example");
    packing = Packing::kGood;
    packed = 0;
    SSL_CTX* const ctx = server_ctx_.get();
    SSL_CTX_use_certificate_chain_file(ctx, cert.cert.c_str());
    SSL_CTX_use_PrivateKey_file(ctx, cert.key.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_add_cert_compression_alg(ctx, 2, PackBrotli, nullptr);
    SSL_CTX_add_cert_compression_alg(ctx, 1, PackZlib, nullptr);
    SSL_CTX_set_early_data_enabled(ctx, 1);
    SSL_CTX_set_num_tickets(ctx, 1);
    std::string error;
    authorities_ = TlsAuthorities::Load(Ca().cert(), &error);
  }

  void Use(const TlsProfile& profile) {
    std::vector<TlsFault> faults;
    context_ =
        TlsContext::Create(profile, authorities_, sessions_, 7200, &faults);
    ASSERT_NE(context_, nullptr);
  }

  std::unique_ptr<TlsEngine> Engine() {
    return TlsEngine::Create(context_, "a.example", {"http/1.1"}, "scope");
  }

  // One handshake, and a word from the server; how it ended for the client.
  TlsResult Meet(TlsEngine* client) {
    bssl::UniquePtr<SSL> server(SSL_new(server_ctx_.get()));
    BIO* const in = BIO_new(BIO_s_mem());
    BIO* const out = BIO_new(BIO_s_mem());
    SSL_set_bio(server.get(), in, out);
    SSL_set_accept_state(server.get());
    std::string incoming;
    std::string outgoing;
    TlsResult result = client->Handshake(&outgoing);
    hello_ = ClientHello::Parse(outgoing).value_or(ClientHello());
    for (int i = 0; i < 10; ++i) {
      BIO_write(in, outgoing.data(), static_cast<int>(outgoing.size()));
      outgoing.clear();
      if (SSL_do_handshake(server.get()) == 1) SSL_write(server.get(), "x", 1);
      incoming = TakeAll(out);
      if (incoming.empty()) break;
      client->Feed(incoming);
      if (result == TlsResult::kWantInput) {
        result = client->Handshake(&outgoing);
        if (result == TlsResult::kWantInput) continue;
        if (result != TlsResult::kOk) break;
      }
      char buffer[64];
      size_t size = 0;
      while (client->Read(buffer, sizeof buffer, &size, &outgoing) ==
             TlsResult::kOk) {
      }
    }
    return result;
  }

  static std::string TakeAll(BIO* bio) {
    const uint8_t* data = nullptr;
    size_t size = 0;
    BIO_mem_contents(bio, &data, &size);
    std::string bytes(reinterpret_cast<const char*>(data), size);
    BIO_reset(bio);
    return bytes;
  }

  const std::shared_ptr<TlsSessions> sessions_ = TlsSessions::Create(100);
  std::shared_ptr<const TlsAuthorities> authorities_;
  std::shared_ptr<const TlsContext> context_;
  const bssl::UniquePtr<SSL_CTX> server_ctx_;
  ClientHello hello_;  // The last one.
};

TEST_F(TlsMemoryTest, ACompressedCertificateIsUnpackedAndVerified) {
  for (const char* algorithm : {"brotli", "zlib"}) {
    TlsProfile profile;
    profile.certificate_compression = {algorithm};
    Use(profile);
    const int before = packed;
    const auto client = Engine();
    EXPECT_EQ(TlsResult::kOk, Meet(client.get())) << client->error();
    EXPECT_EQ(before + 1, packed) << algorithm;
    EXPECT_GT(client->facts().not_after, 0);
  }
}

TEST_F(TlsMemoryTest, ABadlyCompressedCertificateEndsTheHandshake) {
  for (const char* algorithm : {"brotli", "zlib"}) {
    TlsProfile profile;
    profile.certificate_compression = {algorithm};
    Use(profile);
    for (const Packing bad :
         {Packing::kCutShort, Packing::kTooLong, Packing::kNonsense}) {
      packing = bad;
      const auto client = Engine();
      EXPECT_EQ(TlsResult::kFailed, Meet(client.get()))
          << algorithm << " " << static_cast<int>(bad);
    }
  }
}

TEST_F(TlsMemoryTest, NobodyIsTrustedWithoutAuthorities) {
  authorities_ = TlsAuthorities::None();
  Use(TlsProfile());
  EXPECT_EQ(TlsResult::kVerifyFailed, Meet(Engine().get()));
}

TEST_F(TlsMemoryTest, ATicketOfTheNewestVersionIsSentOnce) {
  Use(TlsProfile());
  const auto first = Engine();
  EXPECT_EQ(TlsResult::kOk, Meet(first.get()));
  EXPECT_FALSE(hello_.Has(kPreSharedKey));
  EXPECT_EQ(1u, sessions_->size());
  // Two that begin before the first of them has got a new ticket.
  const auto second = Engine();
  const auto third = Engine();
  EXPECT_EQ(0u, sessions_->size());
  EXPECT_EQ(TlsResult::kOk, Meet(third.get()));
  EXPECT_FALSE(hello_.Has(kPreSharedKey));
  EXPECT_EQ(TlsResult::kOk, Meet(second.get()));
  EXPECT_TRUE(hello_.Has(kPreSharedKey));
  EXPECT_TRUE(second->facts().resumed);
}

TEST_F(TlsMemoryTest, EarlyDataIsNotEvenOffered) {
  Use(TlsProfile());
  EXPECT_EQ(TlsResult::kOk, Meet(Engine().get()));
  const auto resuming = Engine();
  // Whoever offers it says so in the first message.
  EXPECT_EQ(TlsResult::kOk, Meet(resuming.get()));
  EXPECT_TRUE(hello_.Has(kPreSharedKey));
  EXPECT_FALSE(hello_.Has(kEarlyData));
  EXPECT_TRUE(resuming->facts().resumed);
}

TEST_F(TlsMemoryTest, ASessionEndsWithItsContext) {
  Use(TlsProfile());
  EXPECT_EQ(TlsResult::kOk, Meet(Engine().get()));
  EXPECT_EQ(1u, sessions_->size());
  context_ = nullptr;
  EXPECT_EQ(0u, sessions_->size());
}

TEST_F(TlsMemoryTest, NoMoreThanEightSessionsAreKeptForOneServer) {
  SSL_CTX_set_num_tickets(server_ctx_.get(), 4);
  Use(TlsProfile());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(TlsResult::kOk, Meet(Engine().get()));
  }
  EXPECT_EQ(TlsSessions::kMostAlike, sessions_->size());
  sessions_->SetCapacity(3);
  EXPECT_EQ(3u, sessions_->size());
}

}  // namespace
}  // namespace hotline::net
