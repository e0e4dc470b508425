// The version of all programs.
#ifndef HOTLINE_BASE_VERSION_H_
#define HOTLINE_BASE_VERSION_H_

namespace hotline {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace hotline

#endif  // HOTLINE_BASE_VERSION_H_
