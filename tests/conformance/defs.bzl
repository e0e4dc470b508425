"""Conformance tests: clients of many languages against the front."""

def conformance_test(name, data):
    """Defines NAME_test: runs the client NAME over every transport."""
    native.sh_test(
        name = name + "_test",
        srcs = ["run.sh"],
        args = [
            "tests/conformance/conformance_test.py",
            name,
        ],
        data = [
            ":conformance_server",
            ":conformance_test.py",
            ":stubs",
            "//tests/e2e:python",
        ] + data,
        size = "medium",
        tags = ["e2e"],
    )
