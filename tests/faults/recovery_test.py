"""The breaker opens for an upstream that does not answer, and closes again."""

import socket
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import peers
import wait


class Port:
    """A port that can be listened on, or not."""

    def __init__(self):
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))  # Bound only: dials are refused.
        self.target = "http://127.0.0.1:%d" % self._holder.getsockname()[1]
        self._thread = None

    def listen(self):
        self._holder.listen(64)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            sock, _ = self._holder.accept()
            data = sock.recv(65536)
            if data == b"stop":
                sock.close()
                return
            while data:
                sock.sendall(peers.ok())
                data = sock.recv(65536)
            sock.close()

    def stop(self):
        if self._thread is not None:
            with socket.create_connection(self._holder.getsockname()) as last:
                last.sendall(b"stop")
                self._thread.join()
        self._holder.close()


class BreakerTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.port = Port()
        self.addCleanup(self.port.stop)

    def get(self, server):
        return server.broker.Execute(
            pb.ExecuteRequest(url=self.port.target + "/"), timeout=10)

    def refusal(self, server):
        with self.assertRaises(grpc.RpcError) as caught:
            self.get(server)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        return hotlined.reason(caught.exception)

    def breaker(self, server):
        return server.stats(target=self.port.target).targets[0].breaker

    def test_it_opens_says_so_and_closes_when_the_upstream_is_back(self):
        server = self.start_hotlined(
            {"pool": {"breaker_failures": 4, "breaker_open_for": "1s"}})
        label = '{target="%s"}' % self.port.target
        wait.until(lambda: self.refusal(server) == "CIRCUIT_OPEN",
                   "the breaker opens", 30)
        breaker = self.breaker(server)
        self.assertIn(breaker.state, ("OPEN", "HALF_OPEN"))
        self.assertEqual(breaker.failures, 4)
        self.assertGreater(breaker.opened, 0)
        metrics = server.metrics()
        self.assertEqual(metrics["hotline_breaker_open" + label], 1)
        self.assertGreater(metrics["hotline_breaker_opened_total" + label], 0)
        wait.until(lambda: "circuit breaker opened" in server.log(),
                   "the log says it")

        self.port.listen()

        def served():
            try:
                return self.get(server).status == 200
            except grpc.RpcError:
                return False

        wait.until(served, "it is tried again, and serves", 30)
        self.assertEqual(self.breaker(server).state, "CLOSED")
        self.assertEqual(self.breaker(server).failures, 0)
        self.assertEqual(server.metrics()["hotline_breaker_open" + label], 0)
        wait.until(lambda: "circuit breaker closed" in server.log(),
                   "the log says it")
        server.check_nothing_held()

    def test_while_it_is_open_nothing_is_dialled(self):
        server = self.start_hotlined(
            {"pool": {"breaker_failures": 2, "breaker_open_for": "3600s"}})
        wait.until(lambda: self.refusal(server) == "CIRCUIT_OPEN",
                   "the breaker opens", 30)
        dials = server.stats().totals.counters.dials
        for _ in range(50):
            self.assertEqual(self.refusal(server), "CIRCUIT_OPEN")
        self.assertEqual(server.stats().totals.counters.dials, dials)
        self.assertGreater(self.breaker(server).open_for.seconds, 3000)
        # A reload turns it off, and dials begin again.
        server.config["pool"]["breaker_failures"] = 0
        server.write_config()
        wait.until(lambda: self.refusal(server) == "CONNECT_FAILED",
                   "dials begin again", 30)


class DesyncTest(harness.EndToEnd):

    def test_after_unsolicited_bytes_nothing_is_reused_for_a_while(self):
        def script(connection):
            while connection.read_request():
                # The first three say more than they were asked.
                surplus = b"surprise!" if connection.index < 3 else b""
                connection.send(peers.ok() + surplus)

        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        server = self.start_hotlined()
        get = lambda: server.broker.Execute(
            pb.ExecuteRequest(url=peer.target + "/"), timeout=20)
        desync = lambda: server.stats(target=peer.target).targets[0].desync
        for count in range(1, 4):
            self.assertEqual(get().body, b"fine\n")
            wait.until(lambda: desync().count == count, "it is noticed", 30)
        self.assertEqual(desync().evidence, b"surprise!".hex())
        self.assertGreater(desync().no_reuse_for.seconds, 200)
        self.assertEqual(server.metrics()[
            'hotline_quarantined{target="%s"}' % peer.target], 1)
        wait.until(lambda: b"surprise!".hex() in server.log(),
                   "the log has the bytes", 30)
        for _ in range(4):
            self.assertFalse(get().receipt.connection.reused)
        self.assertEqual(peer.accepted, 7)
        server.check_nothing_held()


if __name__ == "__main__":
    unittest.main()
