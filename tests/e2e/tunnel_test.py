"""Real servers and their own clients, through `hotline tunnel`."""

import base64
import hashlib
import os
import subprocess
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import databases
import harness
import hotlined
import peers
import tunnels


class ClientsTest(harness.EndToEnd):

    def listen(self, server, *words):
        listener = tunnels.Listener(server, *words)
        self.addCleanup(listener.stop)
        return listener

    def run_client(self, *command, stdin=b""):
        done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout

    def check_all_ended_well(self, listener, server, count):
        self.assertEqual(listener.finish(), [(0, "")] * count)
        server.check_nothing_held()

    def test_redis_and_its_command_line(self):
        redis = databases.Redis(self.directory)
        self.addCleanup(redis.stop)
        server = self.start_hotlined()
        listener = self.listen(server, "tcp://127.0.0.1:%d" % redis.port)
        client = ("redis-cli", "-p", str(listener.port))
        self.assertEqual(self.run_client(*client, "PING"), b"PONG\n")
        large = os.urandom(3 << 20)
        self.assertEqual(
            self.run_client(*client, "-x", "SET", "large", stdin=large),
            b"OK\n")
        # It adds a line break of its own.
        self.assertTrue(self.run_client(*client, "GET", "large")
                        == large + b"\n")
        # Ten thousand commands, none of which waits for an answer.
        commands = b"".join(b"INCR counter\r\n" for _ in range(10000))
        answer = self.run_client(*client, "--pipe", stdin=commands)
        self.assertIn(b"errors: 0, replies: 10000", answer)
        self.assertEqual(self.run_client(*client, "GET", "counter"),
                         b"10000\n")
        self.check_all_ended_well(listener, server, 5)

    def test_postgresql_and_its_command_line(self):
        postgres = databases.Postgres(self.directory)
        self.addCleanup(postgres.stop)
        server = self.start_hotlined()
        listener = self.listen(server, "tcp://127.0.0.1:%d" % postgres.port)

        def psql(*words, stdin=b""):
            return self.run_client(
                "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h",
                "127.0.0.1", "-p", str(listener.port), "-U", "tester",
                "postgres", *words, stdin=stdin)

        self.assertEqual(psql("-c", "select 6 * 7"), b"42\n")
        psql("-c", "create table things (id int, name text)")
        rows = b"".join(b"%d\tthing %d\n" % (n, n) for n in range(100000))
        psql("-c", "copy things from stdin", stdin=rows)
        self.assertEqual(
            psql("-c", "select count(*), max(id) from things"),
            b"100000|99999\n")
        self.assertTrue(psql("-c", "copy things to stdout") == rows)
        self.check_all_ended_well(listener, server, 5)

    def test_exit_codes_say_what_happened(self):
        server = self.start_hotlined()
        _, error = self.hotline(server, "tunnel", "tcp://127.0.0.1:1", code=6)
        self.assertIn("CONNECT_FAILED", error)
        _, error = self.hotline(server, "tunnel", "tcp://127.0.0.1", code=2)
        self.assertIn("BAD_TARGET", error)
        self.hotline(server, "tunnel", code=2)
        stop = threading.Event()  # It does not even answer an end.
        peer = peers.Peer(lambda connection: stop.wait(30))
        self.addCleanup(peer.stop)
        self.addCleanup(stop.set)
        target = peer.target.replace("http:", "tcp:")
        _, error = self.hotline(server, "tunnel", "--max-time", "0.5", target,
                                code=5)
        self.assertIn("UPSTREAM_TIMEOUT", error)

    def test_each_side_ends_by_itself(self):
        def count(connection):
            connection.send(b"%d" % len(connection.read_all()))
            connection.end()

        peer = peers.Peer(count)
        self.addCleanup(peer.stop)
        server = self.start_hotlined()
        target = peer.target.replace("http:", "tcp:")
        out, error = self.hotline(server, "tunnel", "--receipt", target,
                                  stdin=b"x" * 1000000)
        self.assertEqual(out, "1000000")
        self.assertIn("sent       1000000 bytes", error)
        self.assertIn("received   7 bytes", error)
        server.check_nothing_held()


def websocket_frame(payload, mask=b""):
    """One text frame of less than 126 bytes; from a client with a mask."""
    head = bytes((0x81, len(payload) | (0x80 if mask else 0)))
    if mask:
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    return head + mask + payload


def websocket_echo(connection):
    """A WebSocket server: frames of less than 126 bytes come back."""
    request = connection.read_request()
    if request is None:
        return
    if request.headers.get("upgrade") != "websocket":
        connection.send(b"HTTP/1.1 426 Upgrade Required\r\n"
                        b"Content-Length: 0\r\n\r\n")
        return
    accept = base64.b64encode(hashlib.sha1(
        request.headers["sec-websocket-key"].encode()
        + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    # The first frame comes with the answer.
    connection.send(b"HTTP/1.1 101 Switching Protocols\r\n"
                    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                    + websocket_frame(b"welcome"))
    data = b""
    while True:
        more = connection.read_some()
        if not more:
            return
        data += more
        while len(data) >= 6 and len(data) >= 6 + (data[1] & 0x7f):
            size, mask = data[1] & 0x7f, data[2:6]
            payload = bytes(b ^ mask[i % 4]
                            for i, b in enumerate(data[6:6 + size]))
            data = data[6 + size:]
            connection.send(websocket_frame(payload))


class UpgradeTest(harness.EndToEnd):

    KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455's example.
    ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

    def setUp(self):
        super().setUp()
        self.echo = peers.Peer(websocket_echo)
        self.addCleanup(self.echo.stop)

    def upgrade(self, path="/"):
        return pb.Upgrade(protocol="websocket", path=path, headers=[
            pb.Header(name="Sec-WebSocket-Key", value=self.KEY),
            pb.Header(name="Sec-WebSocket-Version", value=b"13")])

    def check_frames(self, tunnel):
        headers = {h.name: h.value for h in tunnel.opened.headers}
        self.assertEqual(headers["sec-websocket-accept"], self.ACCEPT)
        self.assertEqual(tunnel.read(9), websocket_frame(b"welcome"))
        for text in (b"hello", b"", b"x" * 125):
            tunnel.send(websocket_frame(text, b"mask"))
            self.assertEqual(tunnel.read(len(text) + 2),
                             websocket_frame(text))

    def test_a_websocket_behind_nginx_over_tls(self):
        _, server, target = self.start_both(http2=True, extra="""
            location /chat {
              proxy_pass http://127.0.0.1:%d; proxy_http_version 1.1;
              proxy_set_header Upgrade $http_upgrade;
              proxy_set_header Connection upgrade;
            }""" % self.echo.port)
        tunnel = tunnels.Tunnel(server, target=target,
                                upgrade=self.upgrade("/chat"))
        self.assertEqual(tunnel.opened.connection.protocol, "http/1.1")
        self.check_frames(tunnel)
        # nginx would answer an end of ours with a bare FIN.
        tunnel.cancel()
        server.check_nothing_held()

    def test_on_a_lease_that_has_answered_before(self):
        server = self.start_hotlined()
        lease = server.broker.Acquire(pb.AcquireRequest(
            target=self.echo.target, mode=pb.MODE_EXCLUSIVE),
                                      timeout=10).lease.lease_id
        tunnel = tunnels.Tunnel(server, lease_id=lease, upgrade=self.upgrade())
        self.check_frames(tunnel)
        tunnel.end()
        tunnel.finish()
        # The connection is gone, and so is the use of the lease.
        with self.assertRaises(grpc.RpcError) as caught:
            server.broker.Execute(pb.ExecuteRequest(
                url=self.echo.target + "/", lease_id=lease), timeout=10)
        self.assert_code(caught.exception, grpc.StatusCode.UNAVAILABLE,
                         "UPSTREAM_RESET")
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)
        server.check_nothing_held()

    def test_a_refusal_carries_its_status(self):
        _, server, target = self.start_both()
        for path, status in (("/404", "404"), ("/", "200")):
            with self.assertRaises(grpc.RpcError) as caught:
                tunnels.Tunnel(server, target=target,
                               upgrade=self.upgrade(path))
            self.assert_code(caught.exception,
                             grpc.StatusCode.FAILED_PRECONDITION,
                             "UPGRADE_REFUSED")
            info = hotlined.error_details(caught.exception)["ErrorInfo"]
            self.assertEqual(info.metadata["status"], status)
        # Nothing of it is used again.
        self.assertEqual(server.stats().totals.counters.opened, 2)
        server.check_nothing_held()

    def test_an_http2_lease_cannot_be_upgraded(self):
        _, server, target = self.start_both(http2=True)
        lease = server.broker.Acquire(pb.AcquireRequest(
            target=target, mode=pb.MODE_EXCLUSIVE), timeout=10).lease.lease_id
        with self.assertRaises(grpc.RpcError) as caught:
            tunnels.Tunnel(server, lease_id=lease, upgrade=self.upgrade())
        self.assert_code(caught.exception,
                         grpc.StatusCode.FAILED_PRECONDITION, "ALPN_MISMATCH")
        # Nothing was done to it.
        self.assertEqual(server.broker.Execute(pb.ExecuteRequest(
            url=target + "/", lease_id=lease), timeout=10).status, 200)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)

    def test_the_command_line_upgrades_too(self):
        server = self.start_hotlined()
        frame = websocket_frame(b"hi", b"mask")
        out, _ = self.hotline(
            server, "tunnel", "--upgrade", "websocket", "-H",
            "Sec-WebSocket-Key: " + self.KEY.decode(), self.echo.target,
            stdin=frame, decode=False)
        self.assertEqual(out, websocket_frame(b"welcome")
                         + websocket_frame(b"hi"))


if __name__ == "__main__":
    unittest.main()
