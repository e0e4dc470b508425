// Full dials (TCP, TLS 1.3, ALPN, the certificate verified) with BoringSSL and
// blocking sockets alone, one after the other: what bench/dials holds
// dial_bench against. Prints dials per second of this process's CPU time.
//
//   dial_bare ADDRESS PORT NAME CA_FILE DIALS
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench/cpu_seconds.h"

namespace {

bool DialOnce(SSL_CTX* context, const sockaddr_in& peer, const char* name) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  SSL* const ssl = SSL_new(context);
  SSL_set_tlsext_host_name(ssl, name);
  X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), name, std::strlen(name));
  SSL_set_fd(ssl, fd);
  const bool made =
      connect(fd, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) == 0 &&
      SSL_connect(ssl) == 1;
  if (made) SSL_shutdown(ssl);
  SSL_free(ssl);
  close(fd);
  return made;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "dial_bare ADDRESS PORT NAME CA_FILE DIALS\n");
    return 2;
  }
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));
  inet_pton(AF_INET, argv[1], &peer.sin_addr);
  SSL_CTX* const context = SSL_CTX_new(TLS_method());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const unsigned char alpn[] = "\x02h2\x08http/1.1";
  SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn - 1);
  if (SSL_CTX_load_verify_locations(context, argv[4], nullptr) != 1) return 1;
  const int dials = std::atoi(argv[5]);
  int failed = 0;
  const double before = CpuSeconds();
  for (int i = 0; i < dials; ++i) {
    if (!DialOnce(context, peer, argv[3])) ++failed;
  }
  const double cpu = CpuSeconds() - before;
  SSL_CTX_free(context);
  std::printf("%.0f dials per CPU second\n", dials / cpu);
  if (failed > 0) std::fprintf(stderr, "%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}
