// What a profile names, read. Part of tls.
#ifndef HOTLINE_NET_TLS_PEM_FILES_H_
#define HOTLINE_NET_TLS_PEM_FILES_H_

#include <openssl/base.h>
#include <openssl/pool.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace hotline::net {

// The certificates in a PEM text, in DER, in order. None: `error` tells why, as
// the end of a sentence about the text.
std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> ParseCertificates(
    const std::string& text, std::string* error);

// The first key in a PEM text; it must not be encrypted. Null: `error`, as
// above.
bssl::UniquePtr<EVP_PKEY> ParsePrivateKey(const std::string& text,
                                          std::string* error);

// A PEM file's certificates, in DER, in order. None: `error` tells why.
std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> ReadCertificates(
    const std::string& path, std::string* error);

// A PEM file's key; it must not be encrypted. Null: `error` tells why.
bssl::UniquePtr<EVP_PKEY> ReadPrivateKey(const std::string& path,
                                         std::string* error);

// "sha256/BASE64". False: it is not of that form.
bool ParsePin(const std::string& text, std::array<uint8_t, 32>* pin);

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_PEM_FILES_H_
