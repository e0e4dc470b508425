#include "net/tls/pem_files.h"

#include <errno.h>
#include <openssl/base64.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include <fstream>
#include <iterator>

namespace hotline::net {
namespace {

// Far more than any chain needs.
constexpr size_t kMostBytes = 1 << 20;

bool Read(const std::string& path, std::string* text, std::string* error) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  text->resize(kMostBytes + 1);
  if (file) file.read(text->data(), static_cast<std::streamsize>(text->size()));
  if (!file && !file.eof()) {
    *error = path + " cannot be read: " + strerror(errno != 0 ? errno : EIO);
    return false;
  }
  text->resize(static_cast<size_t>(file.gcount()));
  if (text->size() <= kMostBytes) return true;
  *error = path + " is larger than 1 MiB";
  return false;
}

// There is no one to ask for a passphrase.
int NoPassphrase(char*, int, int, void*) { return -1; }

}  // namespace

std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> ParseCertificates(
    const std::string& text, std::string* error) {
  std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> out;
  bssl::UniquePtr<BIO> in(BIO_new_mem_buf(text.data(), text.size()));
  for (;;) {
    bssl::UniquePtr<X509> certificate(
        PEM_read_bio_X509(in.get(), nullptr, NoPassphrase, nullptr));
    if (certificate == nullptr) break;
    uint8_t* der = nullptr;
    const int size = i2d_X509(certificate.get(), &der);
    if (size <= 0) break;
    out.emplace_back(CRYPTO_BUFFER_new(der, size, nullptr));
    OPENSSL_free(der);
  }
  // The end of the file is reported as an error, too.
  const uint32_t code = ERR_peek_last_error();
  ERR_clear_error();
  const bool ended = ERR_GET_LIB(code) == ERR_LIB_PEM &&
                     ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  if (!ended) {
    out.clear();
    *error = "has a certificate that does not parse";
  } else if (out.empty()) {
    *error = "has no certificate in PEM";
  }
  return out;
}

bssl::UniquePtr<EVP_PKEY> ParsePrivateKey(const std::string& text,
                                          std::string* error) {
  bssl::UniquePtr<BIO> in(BIO_new_mem_buf(text.data(), text.size()));
  bssl::UniquePtr<EVP_PKEY> key(
      PEM_read_bio_PrivateKey(in.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr) *error = "has no private key in PEM without a passphrase";
  return key;
}

std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> ReadCertificates(
    const std::string& path, std::string* error) {
  std::string text;
  if (!Read(path, &text, error)) return {};
  auto out = ParseCertificates(text, error);
  if (out.empty()) *error = path + " " + *error;
  return out;
}

bssl::UniquePtr<EVP_PKEY> ReadPrivateKey(const std::string& path,
                                         std::string* error) {
  std::string text;
  if (!Read(path, &text, error)) return nullptr;
  auto key = ParsePrivateKey(text, error);
  OPENSSL_cleanse(text.data(), text.size());
  if (key == nullptr) *error = path + " " + *error;
  return key;
}

bool ParsePin(const std::string& text, std::array<uint8_t, 32>* pin) {
  constexpr char kPrefix[] = "sha256/";
  if (text.rfind(kPrefix, 0) != 0) return false;
  const std::string encoded = text.substr(strlen(kPrefix));
  if (encoded.size() != 44) return false;
  uint8_t decoded[33];
  size_t size = 0;
  if (!EVP_DecodeBase64(decoded, &size, sizeof decoded,
                        reinterpret_cast<const uint8_t*>(encoded.data()),
                        encoded.size()) ||
      size != pin->size()) {
    return false;
  }
  memcpy(pin->data(), decoded, size);
  return true;
}

}  // namespace hotline::net
