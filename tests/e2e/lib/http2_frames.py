"""HTTP/2 frame by frame, for peers that break its rules."""

import struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STATUS_200 = b"\x88"  # By HPACK's static table.


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(
        ">BBI", kind, flags, stream) + payload


class Reader:
    """The client's frames, out of a peers.Connection."""

    def __init__(self, connection):
        self._connection = connection
        self._data = b""

    def _fill(self, size):
        while len(self._data) < size:
            more = self._connection.read_some()
            if not more:
                return False
            self._data += more
        return True

    def preface(self):
        """Takes it; False: there is none."""
        if not self._fill(len(PREFACE)) or not self._data.startswith(PREFACE):
            return False
        self._data = self._data[len(PREFACE):]
        return True

    def next(self):
        """(kind, flags, stream, payload), or None at the end."""
        if not self._fill(9):
            return None
        size = int.from_bytes(self._data[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self._data[3:9])
        if not self._fill(9 + size):
            return None
        payload, self._data = self._data[9:9 + size], self._data[9 + size:]
        return kind, flags, stream & 0x7fffffff, payload
