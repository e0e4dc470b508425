"""System libraries as one repository, from pkg-config and fixed library names.

`@system//:NAME` is a cc_library of flags: headers come from the compiler's own
search path, so nothing is copied. A missing package fails with the name of the
script that installs it.
"""

_HINT = " is missing: run scripts/setup"

def _run(ctx, args):
    result = ctx.execute(args)
    if result.return_code != 0:
        fail(" ".join(args) + _HINT + "\n" + result.stderr)
    return result.stdout.strip()

def _unique(words):
    seen = {}
    for word in words:
        seen[word] = True
    return seen.keys()

def _library(name, linkopts, defines = [], deps = [], include = None):
    return """
cc_library(
    name = "{name}",
    hdrs = {hdrs},
    linkopts = {linkopts},
    defines = {defines},
    deps = {deps},
    includes = {includes},
    visibility = ["//visibility:public"],
)
""".format(
        name = name,
        hdrs = "glob([%r])" % (include + "/**") if include else "[]",
        linkopts = repr(linkopts),
        defines = repr(defines),
        deps = repr([":" + d for d in deps]),
        includes = repr([include] if include else []),
    )

def _absl(ctx):
    flags = _run(ctx, [
        "pkg-config",
        "--static",
        "--libs-only-l",
        "grpc++",
        "absl_flat_hash_map",
        "absl_any_invocable",
        "absl_random_random",
        "absl_statusor",
        "absl_str_format",
        "absl_time",
        "absl_synchronization",
        "absl_cleanup",
    ])
    return [f for f in _unique(flags.split(" ")) if f.startswith("-labsl_")]

def _system_libraries_impl(ctx):
    for package in ["grpc++", "protobuf", "libcares", "libnghttp2", "yaml-cpp", "libbrotlidec", "zlib"]:
        _run(ctx, ["pkg-config", "--exists", package])
    absl = _absl(ctx)

    # gRPC with its own OpenSSL 3 inside the executable, and none of it visible
    # outside: BoringSSL, which serves the upstreams from its own shared
    # library, has symbols of the same names.
    openssl = [
        "-Wl,--exclude-libs,libssl.a:libcrypto.a",
        "-l:libssl.a",
        "-l:libcrypto.a",
        "-ldl",
        "-lpthread",
    ]
    grpc = [
        "-l:libgrpc++_reflection.a",
        "-l:libgrpcpp_channelz.a",
        "-l:libgrpc++.a",
        "-l:libgrpc.a",
        "-l:libaddress_sorting.a",
        "-lre2",
        "-l:libupb.a",
        "-lcares",
        "-lz",
        "-l:libgpr.a",
        "-latomic",
        "-lrt",
    ] + openssl
    boringssl_dir = "/usr/lib/x86_64-linux-gnu/android"
    ctx.symlink("/usr/include/android", "boringssl_include")

    build = ["package(default_visibility = [\"//visibility:public\"])"]
    build.append(_library("absl", absl + ["-lpthread"]))
    build.append(_library("protobuf", ["-lprotobuf", "-lpthread"]))
    build.append(_library("grpc", grpc, deps = ["protobuf", "absl"]))
    build.append(_library("cares", ["-lcares"]))
    build.append(_library("nghttp2", ["-lnghttp2"]))
    build.append(_library("yaml", ["-lyaml-cpp"]))
    build.append(_library("boost", ["-lpthread"], defines = [
        "BOOST_ASIO_NO_DEPRECATED",
        "BOOST_ASIO_NO_TS_EXECUTORS",
        "BOOST_ERROR_CODE_HEADER_ONLY",
        "BOOST_BEAST_USE_STD_STRING_VIEW",
        # It calls the line above deprecated, in every file.
        "BOOST_DISABLE_PRAGMA_MESSAGE",
    ]))
    build.append(_library("boringssl", [
        "-L" + boringssl_dir,
        "-Wl,-rpath," + boringssl_dir,
        "-l:libssl.so.0",
        "-l:libcrypto.so.0",
    ], include = "boringssl_include"))
    build.append(_library("brotlidec", ["-lbrotlidec"]))
    build.append(_library("brotlienc", ["-lbrotlienc"]))
    build.append(_library("zlib", ["-lz"]))
    build.append(_library("openssl", openssl))
    build.append(_library("gtest", ["-lgmock", "-lgtest", "-lpthread"]))
    build.append(_library("gtest_main", ["-lgmock_main", "-lgmock", "-lgtest", "-lpthread"]))
    build.append(_library("benchmark", ["-lbenchmark", "-lpthread"]))
    ctx.file("BUILD.bazel", "\n".join(build))

system_libraries = repository_rule(
    implementation = _system_libraries_impl,
    local = True,
)

def _google_rpc_protos_impl(ctx):
    root = ctx.path(Label("//:WORKSPACE")).dirname
    source = root.get_child("node_modules").get_child("google-proto-files").get_child("google").get_child("rpc")
    if not source.exists:
        fail(str(source) + _HINT)
    for name in ["status.proto", "error_details.proto", "code.proto"]:
        ctx.symlink(source.get_child(name), "google/rpc/" + name)
    ctx.file("BUILD.bazel", """
exports_files(glob(["google/rpc/*.proto"]))

filegroup(
    name = "protos",
    srcs = glob(["google/rpc/*.proto"]),
    visibility = ["//visibility:public"],
)
""")

google_rpc_protos = repository_rule(
    implementation = _google_rpc_protos_impl,
    local = True,
)
