"""Upstreams that flood the broker: ten thousand frames of each kind that costs
more than it gives, beside a second target that must not be affected."""

import ssl
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import callers
import harness
import http2_frames as h2
import peers
import wait

FRAMES = 10000
# A field that the connection's table remembers; each byte "\xbe" is it again.
REMEMBERED = b"\x88\x40\x01a\x7f\xa1\x1e" + b"x" * 4000

# (name, once before, again and again). Stream 1 is over, 3 waits for its answer.
FLOODS = (
    ("SETTINGS", b"", h2.frame(h2.SETTINGS)),
    ("PING", b"", h2.frame(h2.PING, payload=b"12345678")),
    ("empty DATA", h2.frame(h2.HEADERS, h2.END_HEADERS, 3, h2.STATUS_200),
     h2.frame(h2.DATA, 0, 3)),
    ("CONTINUATION", h2.frame(h2.HEADERS, 0, 3, h2.STATUS_200),
     h2.frame(h2.CONTINUATION, 0, 3)),
    ("RST_STREAM", b"", h2.frame(h2.RST_STREAM, 0, 1, b"\0\0\0\x08")),
    ("a bomb of headers", h2.frame(h2.HEADERS, 0, 3, REMEMBERED),
     h2.frame(h2.CONTINUATION, 0, 3, b"\xbe" * 16384)),
)


class FloodTest(harness.EndToEnd):

    def flooding_peer(self, before, flood):
        """Answers one request, and the next one with the flood."""
        def script(connection):
            reader = h2.Reader(connection)
            if not reader.preface():
                return
            connection.send(h2.frame(h2.SETTINGS))
            while True:
                frame = reader.next()
                if frame is None:
                    return
                if frame[0] == h2.SETTINGS and not frame[1] & h2.ACK:
                    connection.send(h2.frame(h2.SETTINGS, h2.ACK))
                if frame[0] != h2.HEADERS:
                    continue
                if frame[2] == 1:
                    connection.send(h2.frame(
                        h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1,
                        h2.STATUS_200))
                    continue
                connection.send(before)
                for _ in range(FRAMES // 100):
                    if not connection.send(flood * 100):
                        return
                connection.await_close()
        certificate = self.authority.issue("flood")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        context.set_alpn_protocols(["h2"])
        peer = peers.Peer(script, context)
        self.addCleanup(peer.stop)
        return peer

    def memory(self):
        with open("/proc/%d/statm" % self.server.process.pid,
                  encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    def check_flood(self, before, flood):
        peer = self.flooding_peer(before, flood)
        url = peer.target + "/"
        answer = self.server.broker.Execute(pb.ExecuteRequest(url=url),
                                            timeout=30)
        self.assertEqual(answer.status, 200)
        memory = self.memory()
        with self.assertRaises(grpc.RpcError) as caught:
            self.server.broker.Execute(pb.ExecuteRequest(url=url), timeout=30)
        self.assert_code(caught.exception, grpc.StatusCode.INTERNAL,
                         "PROTOCOL_ERROR")
        self.assertLess(self.memory() - memory, 8 << 20)
        # It was cut off, and by us.
        wait.until(lambda: peer.open == 0, "the connection is closed", 20)
        self.assertEqual(peer.accepted, 1)
        closed = ('hotline_connections_closed_total{target="%s",'
                  'reason="error"}' % peer.target)
        self.assertEqual(self.server.metrics()[closed], 1)

    def test_each_flood_is_cut_off_and_its_neighbour_is_unaffected(self):
        _, self.server, neighbour = self.start_both(http2=True)
        load = callers.Load(2, lambda number: self.server.broker.Execute(
            pb.ExecuteRequest(url=neighbour + "/"), timeout=30).status)
        try:
            for name, before, flood in FLOODS:
                with self.subTest(flood=name):
                    self.check_flood(before, flood)
        finally:
            outcomes = load.stop()
        self.assertGreater(len(outcomes), 10)
        self.assertEqual(set(outcomes.values()), {200})
        own = next(t for t in self.server.stats().targets
                   if t.target == neighbour)
        self.assertEqual(own.counters.opened, 1)
        self.server.check_nothing_held()


if __name__ == "__main__":
    unittest.main()
