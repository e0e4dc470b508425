"""C++ from .proto files with the system's protoc and grpc_cpp_plugin."""

def cc_proto_sources(name, srcs, root, grpc = [], includes = [], deps = []):
    """Generates NAME, a cc_library.

    Args:
      name: the library.
      srcs: .proto files, labels; each must lie below `root`.
      root: how the labels' paths begin, in the execution root; what follows it
        is the path that is imported.
      grpc: those of the imported paths that declare services.
      includes: further roots for imports, with their files in `deps`.
      deps: (protos, library) pairs that are imported.
    """
    outs = []
    paths = []
    for src in srcs:
        path = src.split(":")[-1]
        paths.append(path)
        stem = path[:-len(".proto")]
        outs += ["gen/" + stem + ".pb.h", "gen/" + stem + ".pb.cc"]
        if path in grpc:
            outs += ["gen/" + stem + ".grpc.pb.h", "gen/" + stem + ".grpc.pb.cc"]

    proto_paths = " ".join(["-I" + i for i in [root] + includes])
    command = "protoc {paths} --cpp_out=$(RULEDIR)/gen {all}".format(
        paths = proto_paths,
        all = " ".join(paths),
    )
    if grpc:
        command += (" && protoc {paths} --plugin=protoc-gen-grpc=$$(command -v grpc_cpp_plugin)" +
                    " --grpc_out=$(RULEDIR)/gen {all}").format(
            paths = proto_paths,
            all = " ".join(grpc),
        )
    native.genrule(
        name = name + "_gen",
        srcs = srcs + [d[0] for d in deps],
        outs = outs,
        cmd = command,
    )
    native.cc_library(
        name = name,
        srcs = [o for o in outs if o.endswith(".cc")],
        hdrs = [o for o in outs if o.endswith(".h")],
        # Generated code: not ours to lint.
        copts = ["-w"],
        includes = ["gen"],
        linkstatic = True,
        deps = [d[1] for d in deps] + ["@system//:grpc"],
        visibility = ["//visibility:public"],
    )
