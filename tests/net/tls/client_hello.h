// A ClientHello, read from the bytes a client sends first.
#ifndef HOTLINE_TESTS_NET_TLS_CLIENT_HELLO_H_
#define HOTLINE_TESTS_NET_TLS_CLIENT_HELLO_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hotline::net {

// Extensions that tests ask about.
enum HelloExtension : uint16_t {
  kServerName = 0,
  kStatusRequest = 5,
  kGroups = 10,
  kSignatureAlgorithms = 13,
  kAlpn = 16,
  kCertificateTimestamp = 18,
  kCompressCertificate = 27,
  kSessionTicket = 35,
  kPreSharedKey = 41,
  kEarlyData = 42,
  kSupportedVersions = 43,
  kEncryptedClientHello = 0xfe0d,
};

inline bool IsGrease(uint16_t value) {
  return (value & 0x0f0f) == 0x0a0a && value >> 8 == (value & 0xff);
}

class ClientHello {
 public:
  using List = std::vector<uint16_t>;

  // Nothing: `bytes` do not begin with a whole one.
  static std::optional<ClientHello> Parse(std::string_view bytes) {
    ClientHello hello;
    Reader record{bytes};
    record.Number(3);  // Handshake, and the version that nobody looks at.
    Reader message = record.Block(2);
    const bool is_hello = message.Number(1) == 1;
    Reader body = message.Block(3);
    body.Number(2);
    body.Take(32);
    body.Block(1);
    hello.ciphers_ = body.Block(2).Numbers();
    body.Block(1);
    Reader extensions = body.Block(2);
    while (!extensions.rest.empty() && !extensions.failed) {
      const uint16_t type = static_cast<uint16_t>(extensions.Number(2));
      hello.order_.push_back(type);
      hello.bodies_[type] = std::string(extensions.Block(2).rest);
    }
    if (!is_hello || record.failed || message.failed || body.failed ||
        extensions.failed) {
      return std::nullopt;
    }
    return hello;
  }

  const List& ciphers() const { return ciphers_; }
  // Types in the order in which they came, GREASE included.
  const List& extensions() const { return order_; }
  bool Has(uint16_t type) const { return bodies_.contains(type); }
  List groups() const { return ListIn(kGroups, 2); }
  List signature_algorithms() const { return ListIn(kSignatureAlgorithms, 2); }
  List versions() const { return ListIn(kSupportedVersions, 1); }
  List compressions() const { return ListIn(kCompressCertificate, 1); }
  std::vector<std::string> alpn() const {
    std::vector<std::string> out;
    const auto found = bodies_.find(kAlpn);
    if (found == bodies_.end()) return out;
    Reader names = Reader{found->second}.Block(2);
    while (!names.rest.empty() && !names.failed) {
      out.emplace_back(names.Block(1).rest);
    }
    return out;
  }
  bool HasGrease() const {
    const auto any = [](const List& list) {
      return std::any_of(list.begin(), list.end(), IsGrease);
    };
    return any(ciphers_) || any(order_) || any(groups()) || any(versions());
  }

  // All that must not change from one connection to the next: without GREASE's
  // random values, and with extensions in the order of their numbers.
  std::string Shape() const {
    List sorted = order_;
    // Its being there depends on the length of all the others.
    std::erase(sorted, 21);
    std::sort(sorted.begin(), sorted.end());
    std::string out = Text(ciphers_) + ";" + Text(sorted) + ";" +
                      Text(groups()) + ";" + Text(signature_algorithms()) +
                      ";" + Text(versions()) + ";" + Text(compressions()) + ";";
    for (const std::string& name : alpn()) out += name + ",";
    return out;
  }

 private:
  struct Reader {
    std::string_view rest;
    bool failed = false;

    std::string_view Take(size_t size) {
      if (size > rest.size()) failed = true;
      const std::string_view taken = rest.substr(0, failed ? 0 : size);
      rest.remove_prefix(taken.size());
      return taken;
    }
    size_t Number(size_t bytes) {
      size_t value = 0;
      for (const char c : Take(bytes)) {
        value = value << 8 | static_cast<unsigned char>(c);
      }
      return value;
    }
    Reader Block(size_t length_bytes) {
      return {Take(Number(length_bytes)), failed};
    }
    List Numbers() {
      List out;
      while (!rest.empty()) out.push_back(static_cast<uint16_t>(Number(2)));
      return out;
    }
  };

  List ListIn(uint16_t type, size_t length_bytes) const {
    const auto found = bodies_.find(type);
    if (found == bodies_.end()) return {};
    return Reader{found->second}.Block(length_bytes).Numbers();
  }

  static std::string Text(const List& list) {
    std::string out;
    for (const uint16_t value : list) {
      if (!IsGrease(value)) out += std::to_string(value) + "-";
    }
    return out;
  }

  List ciphers_;
  List order_;
  std::map<uint16_t, std::string> bodies_;
};

}  // namespace hotline::net

#endif  // HOTLINE_TESTS_NET_TLS_CLIENT_HELLO_H_
