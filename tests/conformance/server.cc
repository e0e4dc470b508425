// Serves conformance.proto over a Unix socket, loopback TCP and mutual TLS:
//
//   conformance_server SOCKET CERTIFICATE KEY AUTHORITY
//
// Prints where it listens, one address a line. Ends with its standard input.
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/loop.h"
#include "server/front/certificates.h"
#include "server/front/front.h"
#include "tests/conformance/service.h"

namespace hotline::conformance {
namespace {

constexpr int kLoops = 2;

int Serve(server::FrontOptions options) {
  auto certificates = server::Certificates::Load(options.tls);
  if (!certificates.ok()) {
    std::cerr << certificates.status() << "\n";
    return 1;
  }
  std::vector<std::unique_ptr<net::Loop>> owned;
  std::vector<net::Loop*> loops;
  for (int i = 0; i < kLoops; ++i) {
    loops.push_back(owned.emplace_back(std::make_unique<net::Loop>()).get());
    loops.back()->Start();
  }
  server::IdentityTable identities;
  server::Front::Parts parts;
  parts.identities = &identities;
  parts.certificates = certificates->get();
  parts.further_services = &NewCall;
  auto front = server::Front::Start(options, parts, loops);
  if (!front.ok()) {
    std::cerr << front.status() << "\n";
    return 1;
  }
  for (const std::string& address : (*front)->addresses()) {
    std::cout << address << std::endl;
  }
  while (std::cin.get() != std::char_traits<char>::eof()) {
  }
  (*front)->Stop(std::chrono::seconds(1));
  for (net::Loop* const loop : loops) {
    loop->Post([loop] { loop->Finish(); });
    loop->Join();
  }
  return 0;
}

}  // namespace
}  // namespace hotline::conformance

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "conformance_server SOCKET CERTIFICATE KEY AUTHORITY\n";
    return 2;
  }
  hotline::server::FrontOptions options;
  // TLS is for addresses that other machines reach.
  options.door.addresses = {"127.0.0.1:0", std::string("unix://") + argv[1],
                            "0.0.0.0:0"};
  options.tls = {argv[2], argv[3], argv[4]};
  return hotline::conformance::Serve(std::move(options));
}
