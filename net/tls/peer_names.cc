#include "net/tls/peer_names.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/stack.h>
#include <openssl/x509v3.h>

#include <string>

namespace hotline::net {
namespace {

std::string BytesOf(const ASN1_STRING* text) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                     static_cast<size_t>(ASN1_STRING_length(text)));
}

// Empty: absent, or not text.
std::string CommonNameOf(X509* certificate) {
  X509_NAME* const subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return "";
  uint8_t* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(
      &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  ERR_clear_error();
  if (size < 0) return "";
  const bssl::UniquePtr<uint8_t> owned(text);
  return std::string(reinterpret_cast<const char*>(text),
                     static_cast<size_t>(size));
}

}  // namespace

bool ReadPeerNames(X509* certificate, TlsPeerNames* names) {
  names->common_name = CommonNameOf(certificate);
  int place = 0;
  const bssl::UniquePtr<GENERAL_NAMES> all(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, &place, nullptr)));
  ERR_clear_error();
  if (all == nullptr) return place == -1;  // No such extension.
  for (size_t i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all.get(), i);
    if (name->type == GEN_URI) {
      names->uris.push_back(BytesOf(name->d.uniformResourceIdentifier));
    } else if (name->type == GEN_DNS) {
      names->dns_names.push_back(BytesOf(name->d.dNSName));
    }
  }
  return true;
}

}  // namespace hotline::net
