// Reads certificates, keys and pins. Private to net/tls.
#ifndef HOTLINE_NET_TLS_PEM_FILES_H_
#define HOTLINE_NET_TLS_PEM_FILES_H_

#include <openssl/base.h>
#include <openssl/pool.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace hotline::net {

// The certificates in a PEM text, in DER, in order. Empty: see `error`, which
// completes a sentence about the text.
std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> ParseCertificates(
    const std::string& text, std::string* error);

// The first key in a PEM text; it must not be encrypted. Null: see `error`, as
// above.
bssl::UniquePtr<EVP_PKEY> ParsePrivateKey(const std::string& text,
                                          std::string* error);

// A PEM file's certificates, in DER, in order. Empty: see `error`.
std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> ReadCertificates(
    const std::string& path, std::string* error);

// A PEM file's key; it must not be encrypted. Null: see `error`.
bssl::UniquePtr<EVP_PKEY> ReadPrivateKey(const std::string& path,
                                         std::string* error);

// Parses "sha256/BASE64". False: invalid.
bool ParsePin(const std::string& text, std::array<uint8_t, 32>* pin);

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_PEM_FILES_H_
