"""What Python's two clients share."""

import asyncio
import inspect
import traceback

import grpc

import conformance_pb2 as pb

SIZES = [31415, 9, 2653, 58979]
SPECIAL_TEXT = "\t\n100 % é \r\n ☺ 😈\t\n"
BINARY = bytes(range(256))
METADATA = [(prefix + name, value) for prefix in ("head-", "trail-")
            for name, value in (("text", "a b, c"), ("two", "1"), ("two", "2"),
                                ("bytes-bin", BINARY), ("none-bin", b""))]


def body(size):
    """As the service makes and expects it."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def ask(size, *sizes):
    """A request with a body, for answers of `sizes`."""
    return pb.Ask(body=body(size), sizes=sizes)


def check(seen, expected):
    if seen != expected:
        raise AssertionError("%.200r instead of %.200r" % (seen, expected))


def check_metadata(seen, prefix):
    """What was sent under `prefix` is there, and in order."""
    check([(k, v) for k, v in seen if k.startswith(prefix)],
          [(k, v) for k, v in METADATA if k.startswith(prefix)])


def channel_arguments(argv):
    """(target, credentials, options) from a client's command line."""
    transport, address, *files = argv[1:]
    options = [("grpc.enable_retries", 0)]
    if transport != "tls":
        return address, None, options
    authority, certificate, key = [_read(name) for name in files]
    return address, grpc.ssl_channel_credentials(
        authority, key, certificate), options


def _read(name):
    with open(name, "rb") as file:
        return file.read()


def _named(cases):
    return [(name, method) for name, method in inspect.getmembers(cases)
            if inspect.ismethod(method) and not name.startswith("_")]


def run(cases):
    """Runs every public method; the exit code."""
    failed = 0
    for name, case in _named(cases):
        try:
            case()
            print("pass", name)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("fail %s: %r" % (name, traceback.format_exc()))
    return 1 if failed else 0


async def run_async(cases):
    """The same for coroutines."""
    failed = 0
    for name, case in _named(cases):
        try:
            await asyncio.wait_for(case(), 60)
            print("pass", name)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("fail %s: %r" % (name, traceback.format_exc()))
    return 1 if failed else 0
