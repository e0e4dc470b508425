"""End-to-end tests: Python against the real hotlined and a real nginx."""

def e2e_test(name, size = "medium", tags = [], data = [], exclusive = True, **kwargs):
    """Runs NAME.py with the library, the stubs and the binaries at hand."""
    native.sh_test(
        name = name,
        srcs = ["//tests/e2e:run.sh"],
        args = [native.package_name() + "/" + name + ".py"],
        data = [
            name + ".py",
            "//client:hotline",
            "//server:hotlined",
            "//tests/e2e:python",
        ] + data,
        size = size,
        # They start servers; the sanitizers' runs leave them out. An exclusive
        # one runs alone: it counts events under load, or bounds a deadline to
        # tens of milliseconds.
        tags = ["e2e"] + (["exclusive"] if exclusive else []) + tags,
        **kwargs
    )
