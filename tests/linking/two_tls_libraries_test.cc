// gRPC brings OpenSSL 3, net/tls brings BoringSSL, and they name their
// functions alike. This program has both, as hotlined does.
#include <arpa/inet.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <future>
#include <string>
#include <vector>

#include "net/tls/tls.h"
#include "tests/fakes/scripted_peer.h"
#include "tests/fakes/test_certs.h"

namespace hotline::upstream {
namespace {

using ::hotline::testing::CertFiles;
using ::hotline::testing::PeerConnection;
using ::hotline::testing::ReadFile;
using ::hotline::testing::ScriptedPeer;
using ::hotline::testing::TestCa;

// Answers every call of any method with the bytes it was sent.
class EchoReactor final : public grpc::ServerGenericBidiReactor {
 public:
  EchoReactor() { StartRead(&message_); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
  }
  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer message_;
};

class EchoService final : public grpc::CallbackGenericService {
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext*) override {
    return new EchoReactor;
  }
};

grpc::ByteBuffer BufferOf(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string TextOf(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  if (!buffer.TrySingleSlice(&slice).ok()) return "(more than one slice)";
  return std::string(reinterpret_cast<const char*>(slice.begin()),
                     slice.size());
}

// A call over mutual TLS, both sides in this process.
std::string EchoOverMutualTls(const TestCa& ca, const std::string& text) {
  const CertFiles server = ca.Issue("server", "IP:127.0.0.1");
  const CertFiles client = ca.Issue("client", "DNS:client");
  grpc::SslServerCredentialsOptions server_options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  server_options.pem_root_certs = ReadFile(ca.cert());
  server_options.pem_key_cert_pairs.push_back(
      {ReadFile(server.key), ReadFile(server.cert)});
  EchoService service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0",
                           grpc::SslServerCredentials(server_options), &port);
  builder.RegisterCallbackGenericService(&service);
  const auto running = builder.BuildAndStart();

  grpc::SslCredentialsOptions client_options{
      ReadFile(ca.cert()), ReadFile(client.key), ReadFile(client.cert)};
  grpc::GenericStub stub(
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                          grpc::SslCredentials(client_options)));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(10));
  const grpc::ByteBuffer request = BufferOf(text);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/echo/Echo", grpc::StubOptions(), &request,
                 &response, [&](grpc::Status s) { done.set_value(s); });
  const grpc::Status status = done.get_future().get();
  running->Shutdown();
  return status.ok() ? TextOf(response) : "failed: " + status.error_message();
}

class Socket {
 public:
  explicit Socket(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(
        0, connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address));
  }
  ~Socket() { close(fd_); }

  void Send(std::string* bytes) {
    EXPECT_EQ(static_cast<ssize_t>(bytes->size()),
              send(fd_, bytes->data(), bytes->size(), MSG_NOSIGNAL));
    bytes->clear();
  }
  std::string_view Receive() {
    const ssize_t size = recv(fd_, buffer_.data(), buffer_.size(), 0);
    return {buffer_.data(), size > 0 ? static_cast<size_t>(size) : 0};
  }

 private:
  const int fd_;
  std::array<char, 16384> buffer_;
};

// Says `text` to a TLS server through BoringSSL and returns what it answers.
std::string TalkThroughBoringSsl(const TestCa& ca, int port,
                                 const std::string& text) {
  std::string error;
  std::vector<net::TlsFault> faults;
  const auto engine = net::TlsEngine::Create(
      net::TlsContext::Create(net::BuiltInTlsProfiles()[0],
                              net::TlsAuthorities::Load(ca.cert(), &error),
                              nullptr, 0, &faults),
      "localhost", {"http/1.1"});
  Socket socket(port);
  std::string out;
  net::TlsResult result;
  while ((result = engine->Handshake(&out)) == net::TlsResult::kWantInput) {
    socket.Send(&out);
    const std::string_view more = socket.Receive();
    if (more.empty()) return "the peer closed";
    engine->Feed(more);
  }
  if (result != net::TlsResult::kOk) return "failed: " + engine->error();
  EXPECT_EQ("TLSv1.3", engine->facts().version);
  EXPECT_EQ("http/1.1", engine->facts().alpn);
  EXPECT_TRUE(engine->Write(text, &out));
  socket.Send(&out);
  char answer[256];
  size_t size = 0;
  while ((result = engine->Read(answer, sizeof answer, &size, &out)) ==
         net::TlsResult::kWantInput) {
    const std::string_view more = socket.Receive();
    if (more.empty()) return "the peer closed";
    engine->Feed(more);
  }
  return std::string(answer, size);
}

std::string OutputOf(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  char line[4096];
  while (fgets(line, sizeof line, pipe) != nullptr) output += line;
  pclose(pipe);
  return output;
}

std::string Self() {
  char path[4096];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  return std::string(path, size > 0 ? static_cast<size_t>(size) : 0);
}

// Where the shared library named so was loaded from.
std::string Loaded(const std::string& name) {
  const std::string maps = hotline::testing::ReadFile("/proc/self/maps");
  const size_t at = maps.find(name);
  if (at == std::string::npos) return "";
  const size_t begin = maps.rfind(' ', at) + 1;
  return maps.substr(begin, maps.find('\n', at) - begin);
}

TEST(TwoTlsLibraries, BothShakeHandsInOneProcess) {
  const TestCa ca;
  ScriptedPeer peer({.tls = ca.Issue("upstream", "DNS:localhost")},
                    [](PeerConnection& connection) {
                      connection.Write("hello " + connection.ReadSome());
                    });
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ("hello hotline",
              TalkThroughBoringSsl(ca, peer.port(), "hotline"));
    EXPECT_EQ("echo", EchoOverMutualTls(ca, "echo"));
  }
}

TEST(TwoTlsLibraries, TheExecutableNeitherShowsNorBorrowsTlsSymbols) {
  const std::string symbols =
      OutputOf("nm -D --with-symbol-versions " + Self());
  ASSERT_NE(std::string::npos, symbols.find("TlsEngine")) << "nm saw nothing";
  EXPECT_EQ("", OutputOf("nm -D " + Self() +
                         " | grep -E ' (SSL|EVP|X509|BIO|ERR)_' | head"));
  EXPECT_EQ("", OutputOf("readelf -d " + Self() +
                         " | grep -E 'NEEDED.*lib(ssl|crypto)'"));
}

TEST(TwoTlsLibraries, OnlyTheWrapperNeedsBoringSsl) {
  const std::string wrapper = Loaded("libhotline_tls.so");
  ASSERT_NE("", wrapper);
  EXPECT_NE(std::string::npos,
            OutputOf("readelf -d " + wrapper).find("[libssl.so.0]"));
  EXPECT_NE("", Loaded("libssl.so.0"));
  EXPECT_EQ("", Loaded("libssl.so.3"));
  EXPECT_EQ("", Loaded("libcrypto.so.3"));
}

}  // namespace
}  // namespace hotline::upstream
