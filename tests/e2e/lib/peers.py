"""Scripted upstreams, each connection in a thread of its own."""

import collections
import select
import socket
import ssl
import struct
import threading

Request = collections.namedtuple("Request", "method path headers body")


def ok(body=b"fine\n"):
    """A whole answer with this body."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body),
                                                                body)


class Connection:
    """One accepted connection, as a script sees it."""

    def __init__(self, sock, index, stopping):
        self.index = index  # In the order of accepting, from 0.
        self._sock = sock
        self._stopping = stopping
        self._data = b""
        self.broken = False  # It ended with an error, such as a reset.

    def _read(self):
        """More bytes; b"" at the end, or when the peer is stopped."""
        while True:
            # select does not see bytes that TLS has already read.
            if getattr(self._sock, "pending", int)():
                break
            ready, _, _ = select.select([self._sock, self._stopping], [], [])
            if self._stopping in ready:
                return b""
            if ready:
                break
        try:
            return self._sock.recv(65536)
        except OSError:
            self.broken = True
            return b""

    def read_some(self):
        """Whatever comes next; b"" at the end."""
        if self._data:
            data, self._data = self._data, b""
            return data
        return self._read()

    def read_all(self):
        """Until the other side has ended its side."""
        return b"".join(iter(self.read_some, b""))

    def end(self):
        """Sends no more: FIN, or with TLS close_notify."""
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock = self._sock.unwrap()
        else:
            self._sock.shutdown(socket.SHUT_WR)

    def read_request(self):
        """A whole request, or None when there is no other."""
        while b"\r\n\r\n" not in self._data:
            more = self._read()
            if not more:
                return None
            self._data += more
        head, self._data = self._data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        while len(self._data) < length:
            more = self._read()
            if not more:
                return None
            self._data += more
        body, self._data = self._data[:length], self._data[length:]
        return Request(method, path, headers, body)

    def send(self, data):
        """Whether it could be sent."""
        try:
            self._sock.sendall(data)
            return True
        except OSError:
            return False

    def has_more(self):
        """Whether bytes have come that no read_request() has returned."""
        if self._data:
            return True
        if not select.select([self._sock], [], [], 0)[0]:
            return False
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def await_close(self):
        """Reads until the other side closes, or the peer is stopped."""
        while self._read():
            pass

    def pause(self, seconds):
        """Delays the script; cut short when the peer is stopped."""
        select.select([self._stopping], [], [], seconds)

    def reset(self):
        """Closes with RST instead of FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack("ii", 1, 0))

    def hang_up(self):
        """Ends the connection, also from another thread than the script's."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # It has ended.


class Peer:
    """Runs `script` on each connection, and closes it when that returns.

    With `context` (an ssl.SSLContext) over TLS; a handshake that fails ends
    its connection.
    """

    def __init__(self, script, context=None, host="127.0.0.1", port=0):
        self._script = script
        self._context = context
        self._lock = threading.Lock()
        self.accepted = 0
        self.open = 0
        # Readable from stop() on.
        self._stopping, self._stop = socket.socketpair()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family,
                                              backlog=1024)
        self.port = self._listener.getsockname()[1]
        scheme, host = (("https", "localhost") if context
                        else ("http", host))
        self.target = "%s://%s:%d" % (scheme, host, self.port)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            ready, _, _ = select.select([self._listener, self._stopping], [],
                                        [])
            if self._stopping in ready:
                return
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                index = self.accepted
                self.accepted += 1
                self.open += 1
            thread = threading.Thread(target=self._serve, args=(sock, index))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock, index):
        try:
            if self._context:
                sock.settimeout(10)
                # Without close_notify TLS has not ended cleanly.
                sock = self._context.wrap_socket(
                    sock, server_side=True, suppress_ragged_eofs=False)
                sock.settimeout(None)
            connection = Connection(sock, index, self._stopping)
            self._script(connection)
        except OSError:
            pass
        finally:
            sock.close()
            with self._lock:
                self.open -= 1

    def stop(self):
        self._stop.close()
        for thread in list(self._threads):
            thread.join()
        self._listener.close()
        self._stopping.close()


def always(answer=ok()):
    """A script: the same answer to every request."""
    def script(connection):
        while connection.read_request() and connection.send(answer):
            pass
    return script


def silent(connection):
    """A script: reads and never answers."""
    connection.await_close()
