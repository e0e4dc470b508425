#ifndef HOTLINE_CLIENT_VERSION_H_
#define HOTLINE_CLIENT_VERSION_H_

namespace hotline::client {

// Of the command line and the library; the contract's is in its package name.
inline constexpr char kVersion[] = "0.1.0";

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_VERSION_H_
