#include "server/front/key_pair.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>
#include <string_view>

namespace hotline::server {
namespace {

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* object) const { Free(object); }
};
using Certificate = std::unique_ptr<X509, Deleter<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>>;
using Input = std::unique_ptr<BIO, Deleter<BIO, BIO_free_all>>;

Input Open(const std::string& text) {
  return Input(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::Status Wrong(const char* what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(what);
}

// Rejects keys with a password: there is no one to ask for it.
int NoPassword(char*, int, int, void*) { return 0; }

}  // namespace

absl::StatusOr<std::chrono::system_clock::time_point> CheckKeyPair(
    const std::string& certificates, const std::string& key_text) {
  const Input certificate_input = Open(certificates);
  const Certificate certificate(
      PEM_read_bio_X509(certificate_input.get(), nullptr, NoPassword, nullptr));
  if (certificate == nullptr) return Wrong("no certificate in PEM form");
  const Input key_input = Open(key_text);
  const Key key(
      PEM_read_bio_PrivateKey(key_input.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) return Wrong("no private key in PEM form");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Wrong("the key is not the certificate's");
  }
  tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1) {
    return Wrong("the certificate has no end");
  }
  return std::chrono::system_clock::from_time_t(timegm(&end));
}

absl::Status CheckAuthorities(const std::string& certificates) {
  const Input input = Open(certificates);
  int count = 0;
  while (Certificate(PEM_read_bio_X509(input.get(), nullptr, NoPassword,
                                       nullptr)) != nullptr) {
    ++count;
  }
  const bool at_end =
      ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (count == 0 || !at_end) return Wrong("no authorities in PEM form");
  ERR_clear_error();
  return absl::OkStatus();
}

}  // namespace hotline::server
