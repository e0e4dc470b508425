"""A network of the test's own: loopback, and no way to anywhere else."""

import ctypes
import os
import subprocess

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000


def enter():
    """Moves this process there. To be called before it has threads.

    As a user of our own where we are not root; OSError where the system lets us
    do neither.
    """
    flags = _CLONE_NEWNET
    user, group = os.getuid(), os.getgid()
    if user != 0:
        flags |= _CLONE_NEWUSER
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, "unshare: " + os.strerror(error))
    if user != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % user),
                           ("gid_map", "0 %d 1" % group)):
            with open("/proc/self/" + name, "w", encoding="ascii") as out:
                out.write(text)
    _ip("link", "set", "lo", "up")
    routes = subprocess.run(["ip", "route", "show", "default"], check=True,
                            stdout=subprocess.PIPE).stdout
    assert not routes, "there is a way out"


def add_address(address):
    """`address` leads to this process alone."""
    _ip("address", "add", address + ("/128" if ":" in address else "/32"),
        "dev", "lo", *(["nodad"] if ":" in address else []))


def _ip(*words):
    subprocess.run(("ip",) + words, check=True, timeout=30)
