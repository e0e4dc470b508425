"""Waiting for conditions; processes that end with the test."""

import ctypes
import signal
import socket
import subprocess
import time


def until(condition, what, seconds=10):
    """The first true value of condition(); AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("not within %s s: %s" % (seconds, what))
        time.sleep(0.01)


def free_port():
    """A TCP port on 127.0.0.1 without a listener at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    """Whether 127.0.0.1:port accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def start(arguments, **options):
    """A child that gets SIGTERM when this process dies, however it dies."""
    return subprocess.Popen(
        arguments, preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG,
                                                  signal.SIGTERM), **options)


def end(process, sig=signal.SIGTERM, seconds=30):
    """Signals a child and returns its exit code; kills it if it lingers."""
    if process.poll() is None:
        process.send_signal(sig)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
