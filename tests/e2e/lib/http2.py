"""Just enough HTTP/2 to misbehave towards a gRPC server."""

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS = 0x0, 0x1, 0x3, 0x4
_END_STREAM, _END_HEADERS = 0x1, 0x4
_MAX_FRAME = 16384
_INITIAL_WINDOW_SIZE = 4
_CANCEL = 8


def _frame(kind, flags, stream, payload=b""):
    return (struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
            + struct.pack(">I", stream) + payload)


def _literal(name, value):
    """A header that nobody need remember, without Huffman codes."""
    return (b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value)


def _request(method):
    return (b"\x83\x86" + _literal(b":path", method)
            + _literal(b":authority", b"localhost")
            + _literal(b"content-type", b"application/grpc")
            + _literal(b"te", b"trailers"))


def connect(address, timeout=20, window=None):
    """A connection on which the handshake has been sent. `window`: how many
    bytes of each answer may come."""
    if address.startswith("unix://"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(address[len("unix://"):])
    else:
        host, port = address.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), timeout)
    settings = b"" if window is None else struct.pack(
        ">HI", _INITIAL_WINDOW_SIZE, window)
    connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
    return connection


def call(method, message, metadata=(), stream=1):
    """The bytes of one call; its (name, value) metadata is sent as it is."""
    headers = _request(method) + b"".join(
        _literal(name, value) for name, value in metadata)
    return (_frame(_HEADERS, _END_HEADERS, stream, headers)
            + _frame(_DATA, _END_STREAM, stream,
                     b"\x00" + struct.pack(">I", len(message)) + message))


def resets(count, method=b"/hotline.v1.Broker/Stats", message=None, batch=200):
    """The bytes of `count` calls, each begun and reset at once; in pieces of
    `batch` calls."""
    headers = _request(method)
    pieces = []
    for first in range(0, count, batch):
        frames = []
        for number in range(first, min(first + batch, count)):
            stream = 2 * number + 1
            frames.append(_frame(_HEADERS, _END_HEADERS, stream, headers))
            if message is not None:
                frames.append(_frame(
                    _DATA, _END_STREAM, stream,
                    b"\x00" + struct.pack(">I", len(message)) + message))
            frames.append(_frame(_RST_STREAM, 0, stream,
                                 struct.pack(">I", _CANCEL)))
        pieces.append(b"".join(frames))
    return pieces


def calls(count, method, message, end=True):
    """The bytes of `count` calls with one message each, one piece a call;
    `end`: the last one of its request."""
    body = b"\x00" + struct.pack(">I", len(message)) + message
    headers = _request(method)
    pieces = []
    for stream in range(1, 2 * count, 2):
        pieces.append(_frame(_HEADERS, _END_HEADERS, stream, headers))
        for first in range(0, len(body), _MAX_FRAME):
            piece = body[first:first + _MAX_FRAME]
            last = end and first + _MAX_FRAME >= len(body)
            pieces[-1] += _frame(_DATA, _END_STREAM if last else 0, stream,
                                 piece)
    return pieces


def send(connection, pieces):
    """How many of them were sent before the other side had enough."""
    for sent, piece in enumerate(pieces):
        try:
            connection.sendall(piece)
        except OSError:
            return sent
    return len(pieces)


def is_closed(connection, seconds=20):
    """Whether the other side ends it within this time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True
