"""Liveness probes while other clients occupy the operators' listener."""

import http.client
import socket
import time
import unittest

import harness

PROBES = 32
STRANGERS = 1000


class HoardTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.server = self.start_hotlined()
        self.host, port = self.server.http.rsplit(":", 1)
        self.port = int(port)
        self.strangers = []
        self.addCleanup(self.close_all)

    def close_all(self):
        for stranger in self.strangers:
            stranger.close()

    def hoard(self, said):
        for _ in range(STRANGERS):
            stranger = socket.create_connection((self.host, self.port), 20)
            self.strangers.append(stranger)
            try:
                stranger.sendall(said)
            except OSError:
                pass  # Cut off already.

    def probe(self):
        """How many of the probes are answered."""
        answered, slowest = 0, 0
        for i in range(PROBES):
            path = ("/readyz", "/healthz", "/metrics")[i % 3]
            start = time.monotonic()
            connection = http.client.HTTPConnection(self.host, self.port,
                                                    timeout=10)
            try:
                connection.request("GET", path)
                answered += connection.getresponse().status == 200
            except OSError:
                pass
            finally:
                connection.close()
            slowest = max(slowest, time.monotonic() - start)
        print("%d of %d probes answered, the slowest after %.0f ms"
              % (answered, PROBES, slowest * 1e3))
        return answered

    def test_silent_strangers(self):
        self.hoard(b"")
        self.assertEqual(self.probe(), PROBES)

    def test_half_heads(self):
        self.hoard(b"GET /readyz HTTP/1.1\r\nHost: local")
        self.assertEqual(self.probe(), PROBES)

    def test_scrapes_that_are_not_read(self):
        self.hoard(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        self.assertEqual(self.probe(), PROBES)


if __name__ == "__main__":
    unittest.main()
