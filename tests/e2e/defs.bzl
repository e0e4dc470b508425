"""End-to-end tests: Python against the real hotlined and a real nginx."""

def e2e_test(name, size = "medium", tags = [], data = [], **kwargs):
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
        # They start servers; the sanitizers' runs leave them out. Each runs
        # alone: they count what happens under load, and hold deadlines to some
        # ten milliseconds.
        tags = ["e2e", "exclusive"] + tags,
        **kwargs
    )
