// The session cache. Private to net/tls.
#ifndef HOTLINE_NET_TLS_SESSIONS_H_
#define HOTLINE_NET_TLS_SESSIONS_H_

#include <openssl/ssl.h>

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "net/tls/tls.h"

namespace hotline::net {

class Sessions final : public TlsSessions {
 public:
  explicit Sessions(size_t capacity) : capacity_(capacity) {}

  void SetCapacity(size_t capacity) override;
  size_t size() const override;

  // `key` begins with the context's PrefixOf.
  void Put(const std::string& key, bssl::UniquePtr<SSL_SESSION> session);
  // The newest session, or null. Removes it if it may be used only once.
  bssl::UniquePtr<SSL_SESSION> Take(const std::string& key);
  // Removes a session that the peer did not accept.
  void Forget(const std::string& key, const SSL_SESSION* session);
  // Removes all sessions of one context.
  void ForgetAll(std::string_view prefix);

 private:
  struct Entry {
    std::string key;
    bssl::UniquePtr<SSL_SESSION> session;
  };
  // The most recently used first.
  using Order = std::list<Entry>;
  using Index = std::multimap<std::string, Order::iterator, std::less<>>;

  void EraseLocked(Index::iterator at);
  void TrimLocked();

  mutable std::mutex mu_;
  size_t capacity_;  // Guarded by mu_, like the members below.
  Order order_;
  Index index_;  // Of equal keys the newest comes last.
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_TLS_SESSIONS_H_
