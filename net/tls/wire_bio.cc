#include "net/tls/wire_bio.h"

#include <openssl/bio.h>
#include <string.h>

#include <algorithm>

namespace hotline::net {
namespace {

WireBio* WireOf(BIO* bio) {
  BIO_clear_retry_flags(bio);
  return static_cast<WireBio*>(BIO_get_data(bio));
}

int Read(BIO* bio, char* to, int capacity) {
  std::string_view& input = WireOf(bio)->input;
  const size_t size =
      std::min(input.size(), static_cast<size_t>(std::max(capacity, 0)));
  if (size == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  memcpy(to, input.data(), size);
  input.remove_prefix(size);
  return static_cast<int>(size);
}

int Write(BIO* bio, const char* from, int size) {
  WireOf(bio)->output->append(from, static_cast<size_t>(size));
  return size;
}

long Control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* Method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(0, "wire");
    BIO_meth_set_read(made, Read);
    BIO_meth_set_write(made, Write);
    BIO_meth_set_ctrl(made, Control);
    return made;
  }();
  return method;
}

}  // namespace

bool WireBio::AttachTo(SSL* ssl) {
  BIO* const bio = BIO_new(Method());
  if (bio == nullptr) return false;
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  return true;
}

}  // namespace hotline::net
