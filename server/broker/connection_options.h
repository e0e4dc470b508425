// Converts between the contract's ConnectionOptions and the pool's. The only
// place that lists their fields: a new field is added here.
#ifndef HOTLINE_SERVER_BROKER_CONNECTION_OPTIONS_H_
#define HOTLINE_SERVER_BROKER_CONNECTION_OPTIONS_H_

#include <string>

#include "base/text.h"
#include "hotline/v1/broker.pb.h"
#include "pool/types.h"

namespace hotline::server {

inline pool::ConnectionOptions FromProto(const v1::ConnectionOptions& in) {
  pool::ConnectionOptions out;
  out.sni = in.sni();
  out.pool_group = in.pool_group();
  out.alpn = in.alpn();
  out.tls_profile = in.tls_profile();
  out.remote_ip = in.remote_ip();
  out.source_ip = in.source_ip();
  return out;
}

inline std::string FromProto(const v1::ConnectionCheck& in) {
  pool::ConnectionCheck out;
  if (!in.method().empty()) out.method = in.method();
  out.path = in.path();
  if (in.has_min_status()) out.min_status = in.min_status();
  if (in.has_max_status()) out.max_status = in.max_status();
  return pool::ToText(out);
}

inline void FillCheck(const std::string& validate, v1::ConnectionCheck* out) {
  const pool::ConnectionCheck in = pool::CheckOfText(validate);
  out->set_method(ToUtf8(in.method));
  out->set_path(ToUtf8(in.path));
  out->set_min_status(in.min_status);
  out->set_max_status(in.max_status);
}

inline void FillOptions(const pool::ConnectionOptions& in,
                        v1::ConnectionOptions* out) {
  out->set_sni(ToUtf8(in.sni));
  out->set_pool_group(ToUtf8(in.pool_group));
  out->set_alpn(ToUtf8(in.alpn));
  out->set_tls_profile(ToUtf8(in.tls_profile));
  out->set_remote_ip(ToUtf8(in.remote_ip));
  out->set_source_ip(ToUtf8(in.source_ip));
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_CONNECTION_OPTIONS_H_
