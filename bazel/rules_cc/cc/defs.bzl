"""Bazel 4's own C++ rules under the name its embedded tools load them by.

The real rules_cc would be downloaded; Debian's package of it does not load in
Bazel 4.2.3. These are the symbols that are asked for, and no more.
"""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
objc_library = native.objc_library
