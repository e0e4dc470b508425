"""ExecuteStream from Python: bodies in pieces, checked as they pass."""

import queue
import zlib

from hotline.v1 import broker_pb2 as pb

PIECE = 256 << 10


def pattern(offset, size):
    """Bytes that depend on where they are: a piece that moved shows."""
    block = offset // 4096
    out = b"".join(b"%012d" % (block + i) * 341 + b"...."
                   for i in range(size // 4096 + 2))
    start = offset % 4096
    return out[start:start + size]


class Checksum:
    """Of what passes: its length and a CRC."""

    def __init__(self):
        self.size = 0
        self.crc = 0

    def add(self, data):
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return data

    def __eq__(self, other):
        return (self.size, self.crc) == (other.size, other.crc)

    def __repr__(self):
        return "%d bytes, %08x" % (self.size, self.crc)


def checksum_of_file(path):
    found = Checksum()
    with open(path, "rb") as file:
        while found.add(file.read(1 << 20)):
            pass
    return found


def write_file(path, size):
    """A file of pattern bytes; its checksum."""
    wanted = Checksum()
    with open(path, "wb") as out:
        while wanted.size < size:
            out.write(wanted.add(pattern(wanted.size,
                                         min(1 << 20, size - wanted.size))))
    return wanted


class Stream:
    """One ExecuteStream under way. Give pieces with send(), or `body`."""

    def __init__(self, server, url, method="GET", body=None, timeout=120,
                 **fields):
        alpn = fields.pop("alpn", "")
        limit = fields.pop("limit", None)  # The head's own timeout, in s.
        self._messages = queue.Queue(4)
        self.sent = Checksum()
        self.got = Checksum()
        self.head = None
        self.end = None
        self.first = pb.ExecuteStreamHead(
            url=url, method=method,
            options=pb.ConnectionOptions(alpn=alpn) if alpn else None,
            **fields)
        if limit is not None:
            self.first.timeout.FromNanoseconds(int(limit * 1e9))
        self.call = server.broker.ExecuteStream(self._requests(body),
                                                timeout=timeout)

    def _requests(self, body):
        yield pb.ExecuteStreamRequest(head=self.first)
        if body is None:
            body = iter(self._messages.get, None)
        for piece in body:
            yield pb.ExecuteStreamRequest(body=self.sent.add(piece))

    def send(self, piece):
        self._messages.put(piece)

    def close(self):
        """The body's end."""
        self._messages.put(None)

    def read(self):
        """The next message; None at the end. Raises what the call ended with.
        """
        message = next(self.call, None)
        if message is None:
            return None
        if message.HasField("head"):
            self.head = message.head
        elif message.HasField("end"):
            self.end = message.end
        else:
            self.got.add(message.body)
        return message

    def read_all(self):
        while self.read() is not None:
            pass
        return self

    def cancel(self):
        self.call.cancel()
        self.close()


def pieces(size, piece=PIECE):
    """A body of pattern bytes."""
    for offset in range(0, size, piece):
        yield pattern(offset, min(piece, size - offset))


def endless(piece=b"x" * PIECE):
    while True:
        yield piece


def memory(process):
    """(resident now, the most since reset_peak) of a process, in bytes."""
    with open("/proc/%d/status" % process.pid, encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return tuple(int(fields[name].split()[0]) * 1024
                 for name in ("VmRSS", "VmHWM"))


def reset_peak(process):
    with open("/proc/%d/clear_refs" % process.pid, "w",
              encoding="ascii") as file:
        file.write("5")
