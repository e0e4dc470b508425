// Decompression of certificates (RFC 8879).
#include <brotli/decode.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>
#include <zlib.h>

#include "net/tls/context.h"

namespace hotline::net {
namespace {

constexpr uint16_t kZlib = 1;
constexpr uint16_t kBrotli = 2;

// The library has bounded `size`, the length announced by the peer, and refuses
// any other result.
template <typename Decompress>
int Unpack(CRYPTO_BUFFER** out, size_t size, Decompress decompress) {
  uint8_t* data = nullptr;
  bssl::UniquePtr<CRYPTO_BUFFER> buffer(CRYPTO_BUFFER_alloc(&data, size));
  if (buffer == nullptr || !decompress(data)) return 0;
  *out = buffer.release();
  return 1;
}

int UnpackBrotli(SSL*, CRYPTO_BUFFER** out, size_t size, const uint8_t* in,
                 size_t in_size) {
  return Unpack(out, size, [&](uint8_t* data) {
    size_t length = size;
    return BrotliDecoderDecompress(in_size, in, &length, data) ==
               BROTLI_DECODER_RESULT_SUCCESS &&
           length == size;
  });
}

int UnpackZlib(SSL*, CRYPTO_BUFFER** out, size_t size, const uint8_t* in,
               size_t in_size) {
  return Unpack(out, size, [&](uint8_t* data) {
    uLongf length = size;
    return uncompress(data, &length, in, in_size) == Z_OK && length == size;
  });
}

}  // namespace

bool AddCertificateCompression(SSL_CTX* ctx, const std::string& name) {
  if (name == "brotli") {
    return SSL_CTX_add_cert_compression_alg(ctx, kBrotli, nullptr,
                                            UnpackBrotli);
  }
  return name == "zlib" &&
         SSL_CTX_add_cert_compression_alg(ctx, kZlib, nullptr, UnpackZlib);
}

}  // namespace hotline::net
