"""Our own C++ rules: the plain ones with our warnings turned on."""

_WARNINGS = ["-Wall", "-Wextra", "-Werror"]

def hotline_library(copts = [], **kwargs):
    # Everything is linked statically: without this each file would be compiled
    # a second time, for a shared library that nobody uses.
    native.cc_library(copts = _WARNINGS + copts, linkstatic = True, **kwargs)

def hotline_binary(copts = [], **kwargs):
    native.cc_binary(copts = _WARNINGS + copts, **kwargs)

def hotline_test(copts = [], deps = [], size = "small", main = True, **kwargs):
    native.cc_test(
        copts = _WARNINGS + copts,
        deps = deps + (["@system//:gtest_main"] if main else ["@system//:gtest"]),
        size = size,
        **kwargs
    )
