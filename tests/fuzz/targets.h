// What is fuzzed. Each function takes any bytes, runs them through the code
// under test and aborts when it breaks a promise. libFuzzer calls one of them
// (main.cc); corpus_test calls all of them with the corpus.
#ifndef HOTLINE_TESTS_FUZZ_TARGETS_H_
#define HOTLINE_TESTS_FUZZ_TARGETS_H_

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace hotline::fuzz {

// An answer to HTTP/1.1. The first byte's bits: 1 the request was a HEAD,
// 2 the connection ends after the answer, 4 limits are small. The second byte
// seeds how the bytes are cut. The rest is what the peer sends.
void FuzzHttp1(std::string_view input);

// Frames of an HTTP/2 server, after its first SETTINGS. The first byte's bits:
// 1 the requests are HEADs, 2 the connection ends after the frames, 4 limits
// are small, 8 there are three requests instead of one. The second byte seeds
// how the bytes are cut.
void FuzzHttp2(std::string_view input);

// A URL, and a target.
void FuzzUrl(std::string_view input);

// A header of a request. The first byte's lower six bits say how many bytes of
// the rest are the name (or a method); what remains is the value.
void FuzzHeader(std::string_view input);

// Frames of an HTTP/2 client. The first byte's bits: 1 the handshake is done
// already, 2 requests are answered, 4 bodies are consumed, 8 limits are small.
// The second byte seeds how the bytes are cut.
void FuzzHttp2Server(std::string_view input);

// gRPC: a body, a path with metadata, and text. The first byte modulo 3 is the
// encoding; its bit 4: the limit is small. The second byte seeds how the bytes
// are cut.
void FuzzGrpcWire(std::string_view input);

// A lease's id as text, and as numbers.
void FuzzLeaseId(std::string_view input);

// A duration or size of the configuration.
void FuzzConfigValue(std::string_view input);

struct Target {
  const char* name;  // Also of its folder in corpus/.
  void (*run)(std::string_view input);
};
inline constexpr Target kTargets[] = {
    {"http1", &FuzzHttp1},
    {"http2", &FuzzHttp2},
    {"url", &FuzzUrl},
    {"header", &FuzzHeader},
    {"lease_id", &FuzzLeaseId},
    {"http2_server", &FuzzHttp2Server},
    {"grpc_wire", &FuzzGrpcWire},
    {"config_value", &FuzzConfigValue},
};

[[noreturn]] inline void Broken(const char* file, int line,
                                const char* promise) {
  std::fprintf(stderr, "%s:%d: broken promise: %s\n", file, line, promise);
  std::abort();
}

}  // namespace hotline::fuzz

#define HOTLINE_PROMISE(condition)                             \
  do {                                                         \
    if (!(condition)) {                                        \
      ::hotline::fuzz::Broken(__FILE__, __LINE__, #condition); \
    }                                                          \
  } while (false)

#endif  // HOTLINE_TESTS_FUZZ_TARGETS_H_
