"""Threads of a child process, and holding some of them still."""

import contextlib
import ctypes
import os

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                         ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long


def named(process, name):
    """The ids of its threads of this name."""
    found = []
    folder = "/proc/%d/task" % process.pid
    for thread in os.listdir(folder):
        with open(os.path.join(folder, thread, "comm"), encoding="ascii") as comm:
            if comm.read().strip() == name:
                found.append(int(thread))
    return found


def _ptrace(request, thread):
    if _LIBC.ptrace(request, thread, None, None) == -1:
        error = ctypes.get_errno()
        raise OSError(error, "ptrace: " + os.strerror(error))


@contextlib.contextmanager
def held(threads):
    """These threads of a child stand still, and no others, inside the block.

    To be entered and left by one thread.
    """
    traced = []
    try:
        for thread in threads:
            _ptrace(_SEIZE, thread)
            traced.append(thread)
            _ptrace(_INTERRUPT, thread)
            os.waitpid(thread, _WALL)
        yield
    finally:
        for thread in traced:
            _ptrace(_DETACH, thread)
