"""Tunnels: bytes both ways, and every kind of end."""

import os
import signal
import ssl
import subprocess
import threading
import time
import unittest

import grpc
from google.protobuf import duration_pb2
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import peers
import tunnels
import wait

Code = grpc.StatusCode
MEBIBYTE = bytes(range(256)) * 4096
HALF_SECOND = duration_pb2.Duration(nanos=500_000_000)


def echo(connection):
    """Sends back what comes, and ends when the other side does."""
    while True:
        data = connection.read_some()
        if not data:
            return connection.end()
        if not connection.send(data):
            return None


class TunnelTest(harness.EndToEnd):

    def peer(self, script, tls=False):
        """A peer, and its tcp:// or tls:// target."""
        context = None
        if tls:
            certificate = self.authority.issue("peer")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
        peer = peers.Peer(script, context)
        self.addCleanup(peer.stop)
        return peer, peer.target.replace("https:", "tls:").replace(
            "http:", "tcp:")

    def exclusive(self, server, target, **fields):
        return server.broker.Acquire(pb.AcquireRequest(
            target=target, mode=pb.MODE_EXCLUSIVE, **fields),
                                     timeout=20).lease.lease_id

    def check_over(self, server):
        """No lease and no connection is left of any tunnel."""
        server.check_nothing_held()
        wait.until(lambda: server.stats().totals.connections
                   == pb.ConnectionCounts(), "no connection is left", 20)

    def expect(self, code, reason, server, timeout=20, **opening):
        with self.assertRaises(grpc.RpcError) as caught:
            tunnels.Tunnel(server, timeout, **opening)
        self.assert_code(caught.exception, code, reason)
        return hotlined.error_details(caught.exception)


class BothWaysTest(TunnelTest):

    def test_bytes_pass_both_ways_over_tcp_and_tls(self):
        server = self.start_hotlined()
        for tls in (False, True):
            with self.subTest(tls=tls):
                peer, target = self.peer(echo, tls)
                tunnel = tunnels.Tunnel(server, target=target)
                info = tunnel.opened.connection
                self.assertEqual(info.protocol, "tls" if tls else "tcp")
                self.assertEqual(bool(info.tls_version), tls)
                self.assertEqual(info.remote_address,
                                 "127.0.0.1:%d" % peer.port)
                for piece in (b"a", b"\0\r\n", MEBIBYTE):
                    tunnel.send(piece)
                    self.assertTrue(tunnel.read(len(piece)) == piece)
                tunnel.end()
                receipt = tunnel.finish()
                self.assertEqual(receipt.bytes_sent, len(MEBIBYTE) + 4)
                self.assertEqual(receipt.bytes_received, len(MEBIBYTE) + 4)
                self.assertEqual(tunnel.call.code(), Code.OK)
        self.check_over(server)
        codes = {name: value for name, value in server.metrics().items()
                 if 'method="Tunnel"' in name and "_count" in name and value}
        self.assertEqual(codes, {'hotline_rpc_seconds_count'
                                 '{method="Tunnel",code="OK"}': 2.0})

    def test_a_server_that_speaks_first_is_heard(self):
        greeted = []

        def greet(connection):
            connection.send(b"220 welcome\r\n")
            greeted.append(connection)
            connection.read_all()

        server = self.start_hotlined()
        for tls in (False, True):
            _, target = self.peer(greet, tls)
            with self.subTest(tls=tls, lease=False):
                tunnel = tunnels.Tunnel(server, target=target)
                self.assertEqual(tunnel.read(13), b"220 welcome\r\n")
                tunnel.cancel()
            with self.subTest(tls=tls, lease=True):
                greeted.clear()
                lease = self.exclusive(server, target)
                wait.until(lambda: greeted, "it speaks before it is read")
                # The broker has dialled again since then.
                server.broker.Release(pb.ReleaseRequest(
                    lease_id=self.exclusive(server, target),
                    outcome=pb.OUTCOME_DISCARD), timeout=10)
                tunnel = tunnels.Tunnel(server, lease_id=lease)
                self.assertEqual(tunnel.read(13), b"220 welcome\r\n")
                tunnel.cancel()
                wait.until(lambda which=lease: self.released(server, which),
                           "the lease is free again")
        self.check_over(server)

    def released(self, server, lease):
        return not server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                         timeout=10).already_released

    def test_the_callers_end_is_passed_on_and_answered(self):
        def answer_the_end(connection):
            total = len(connection.read_all())
            connection.send(b"%d bytes" % total + MEBIBYTE)
            connection.end()

        server = self.start_hotlined()
        for tls in (False, True):
            with self.subTest(tls=tls):
                _, target = self.peer(answer_the_end, tls)
                tunnel = tunnels.Tunnel(server, target=target)
                for _ in range(10):
                    tunnel.send(b"x" * 100)
                tunnel.end()
                self.assertTrue(tunnel.read_to_end()
                                == b"1000 bytes" + MEBIBYTE)
                self.assertEqual(tunnel.finish().bytes_sent, 1000)
        self.check_over(server)

    def test_the_caller_may_send_after_the_upstreams_end(self):
        got = []

        def end_first(connection):
            connection.send(b"that is all")
            connection.end()
            got.append(connection.read_all())

        server = self.start_hotlined()
        _, target = self.peer(end_first)
        tunnel = tunnels.Tunnel(server, target=target)
        self.assertEqual(tunnel.read_to_end(), b"that is all")
        self.assertTrue(tunnel.ended)
        for _ in range(10):
            tunnel.send(b"y" * 1000)
        tunnel.end()
        self.assertEqual(tunnel.finish().bytes_sent, 10000)
        wait.until(lambda: got, "the peer has read")
        self.assertEqual(got, [b"y" * 10000])
        self.check_over(server)

    def test_under_tls_the_upstreams_end_is_passed_on(self):
        server = self.start_hotlined()

        def end_first(connection):
            connection.send(b"that is all")
            connection.end()

        _, target = self.peer(end_first, tls=True)
        tunnel = tunnels.Tunnel(server, target=target)
        self.assertEqual(tunnel.read_to_end(), b"that is all")
        tunnel.end()
        self.assertEqual(tunnel.finish().bytes_received, 11)
        self.check_over(server)

    def memory(self, server):
        with open("/proc/%d/statm" % server.process.pid,
                  encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    def test_the_slower_end_sets_the_pace_and_memory_stays(self):
        go = threading.Event()
        taken = []

        def slow(connection):
            go.wait(30)
            taken.append(len(connection.read_all()))

        def fast(connection):
            for _ in range(64):
                connection.send(MEBIBYTE)

        server = self.start_hotlined()
        _, to_slow = self.peer(slow)
        _, from_fast = self.peer(fast)
        warm = tunnels.Tunnel(server, target=self.peer(echo)[1])
        warm.end()
        warm.finish()
        before = self.memory(server)
        up = tunnels.Tunnel(server, timeout=60, target=to_slow)
        down = tunnels.Tunnel(server, timeout=60, target=from_fast)
        for _ in range(64):
            up.send(MEBIBYTE)
        up.end()
        # As much passes through another one meanwhile.
        beside = tunnels.Tunnel(server, target=self.peer(echo)[1])
        for _ in range(64):
            beside.send(MEBIBYTE)
            self.assertEqual(len(beside.read(len(MEBIBYTE))), len(MEBIBYTE))
        beside.end()
        beside.finish()
        self.assertLess(self.memory(server) - before, 24 << 20)
        go.set()
        self.assertEqual(len(down.read_to_end()), 64 << 20)
        down.end()
        down.finish()
        self.assertEqual(up.finish().bytes_sent, 64 << 20)
        self.assertEqual(taken, [64 << 20])
        self.assertLess(self.memory(server) - before, 24 << 20)
        self.check_over(server)


class EndTest(TunnelTest):

    def test_a_cancelled_tunnel_never_looks_complete(self):
        seen = []

        def script(connection):
            connection.send(b"go")
            seen.append((connection.read_all(), connection.broken))

        server = self.start_hotlined()
        for tls in (False, True):
            with self.subTest(tls=tls):
                seen.clear()
                _, target = self.peer(script, tls)
                tunnel = tunnels.Tunnel(server, target=target)
                self.assertEqual(tunnel.read(2), b"go")
                tunnel.send(b"half of it")
                wait.until(lambda: server.stats(
                    view=pb.STATS_VIEW_LEASES).leases, "it runs")
                tunnel.cancel()
                wait.until(lambda: seen, "the peer sees it", 20)
                self.assertTrue(seen[0][1], seen)
        self.check_over(server)

    def test_a_killed_callers_tunnel_never_looks_complete(self):
        seen = []

        def script(connection):
            connection.send(b"go")
            seen.append((connection.read_all(), connection.broken))

        server = self.start_hotlined()
        _, target = self.peer(script)
        environment = dict(os.environ, HOTLINE_ADDRESS=server.address)
        with subprocess.Popen(("client/hotline", "tunnel", target),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=environment) as caller:
            self.assertEqual(caller.stdout.read(2), b"go")
            caller.kill()
        wait.until(lambda: seen, "the peer sees it", 20)
        self.assertEqual(seen, [(b"", True)])
        self.check_over(server)

    def test_a_reset_is_reported_after_the_bytes_before_it(self):
        def script(connection):
            connection.read_some()
            connection.send(b"last words")
            connection.read_some()
            connection.reset()

        server = self.start_hotlined()
        _, target = self.peer(script)
        tunnel = tunnels.Tunnel(server, target=target)
        tunnel.send(b"go")
        self.assertEqual(tunnel.read(10), b"last words")
        tunnel.send(b"on")
        error = tunnel.failure()
        self.assert_code(error, Code.ABORTED, "UPSTREAM_RESET")
        self.assertEqual(hotlined.error_details(error)["ErrorInfo"].metadata[
            "verdict"], "RESPONSE_STARTED")
        self.check_over(server)

    def test_under_tls_a_fin_without_close_notify_is_a_reset(self):
        def script(connection):
            connection.send(b"cut off he")
            connection.hang_up()

        server = self.start_hotlined()
        _, target = self.peer(script, tls=True)
        tunnel = tunnels.Tunnel(server, target=target)
        self.assertEqual(tunnel.read(10), b"cut off he")
        self.assert_code(tunnel.failure(), Code.ABORTED, "UPSTREAM_RESET")
        self.check_over(server)

    def test_the_deadline_covers_the_whole_tunnel(self):
        server = self.start_hotlined()
        _, target = self.peer(echo)
        tunnel = tunnels.Tunnel(server, timeout=1, target=target)
        self.assert_code(tunnel.failure(), Code.DEADLINE_EXCEEDED,
                         "UPSTREAM_TIMEOUT")
        self.check_over(server)

    def test_without_a_deadline_the_idle_timeout_ends_it(self):
        def slow_echo(connection):
            while data := connection.read_some():
                connection.pause(0.1)
                connection.send(data)

        server = self.start_hotlined({"tunnel": {"idle_timeout": "1s"}})
        _, target = self.peer(slow_echo)
        short = tunnels.Tunnel(server, timeout=None, target=target,
                               idle_timeout=HALF_SECOND)
        busy = tunnels.Tunnel(server, timeout=None, target=target)
        start = time.monotonic()
        self.assert_code(short.failure(), Code.DEADLINE_EXCEEDED,
                         "IDLE_TIMEOUT")
        self.assertGreater(time.monotonic() - start, 0.4)
        # Traffic keeps it open.
        while time.monotonic() - start < 3:
            busy.send(b"x")
            self.assertEqual(busy.read(1), b"x")
        self.assert_code(busy.failure(), Code.DEADLINE_EXCEEDED,
                         "IDLE_TIMEOUT")
        self.check_over(server)

    def test_a_drain_waits_for_a_tunnel_until_the_grace_ends(self):
        for patient in (True, False):
            with self.subTest(patient=patient):
                server = self.start_hotlined(
                    {"shutdown_grace": "20s" if patient else "1s"})
                _, target = self.peer(echo)
                tunnel = tunnels.Tunnel(server, target=target)
                tunnel.send(b"x")
                self.assertEqual(tunnel.read(1), b"x")
                server.process.send_signal(signal.SIGTERM)
                wait.until(lambda s=server: s.page("/readyz")[0] == 503,
                           "it drains")
                self.expect(Code.UNAVAILABLE, "DRAINING", server,
                            target=target)
                if patient:
                    tunnel.send(b"y")
                    self.assertEqual(tunnel.read(1), b"y")
                    tunnel.end()
                    self.assertEqual(tunnel.finish().bytes_sent, 2)
                else:
                    self.assert_code(tunnel.failure(), Code.ABORTED,
                                     "UPSTREAM_RESET")
                self.assertEqual(server.stop(), 0)


class LeaseTest(TunnelTest):

    def test_a_lease_does_not_expire_while_its_tunnel_is_open(self):
        server = self.start_hotlined()
        _, target = self.peer(echo)
        ttl = duration_pb2.Duration(seconds=1)
        lease = self.exclusive(server, target, lease_ttl=ttl)
        tunnel = tunnels.Tunnel(server, lease_id=lease)
        self.expect(Code.FAILED_PRECONDITION, "LEASE_BUSY", server,
                    lease_id=lease)
        # A later lease without a tunnel expires meanwhile.
        self.exclusive(server, target, lease_ttl=ttl)
        wait.until(lambda: server.stats().totals.counters.leases_expired == 1,
                   "the other one expires")
        tunnel.send(b"x")
        self.assertEqual(tunnel.read(1), b"x")
        tunnel.end()
        tunnel.finish()
        # The lease still holds, but its connection is used up.
        found = self.expect(Code.UNAVAILABLE, "UPSTREAM_RESET", server,
                            lease_id=lease)
        self.assertEqual(found["ErrorInfo"].metadata["verdict"], "NOT_SENT")
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)
        self.expect(Code.NOT_FOUND, "LEASE_EXPIRED", server, lease_id=lease)
        self.check_over(server)

    def test_releasing_its_lease_as_broken_ends_a_tunnel(self):
        server = self.start_hotlined()
        _, target = self.peer(echo)
        lease = self.exclusive(server, target)
        tunnel = tunnels.Tunnel(server, lease_id=lease)
        tunnel.send(b"x")
        tunnel.read(1)
        server.broker.Release(pb.ReleaseRequest(
            lease_id=lease, outcome=pb.OUTCOME_BROKEN), timeout=10)
        self.assert_code(tunnel.failure(), Code.ABORTED, "UPSTREAM_RESET")
        self.check_over(server)

    def test_what_does_not_fit_changes_nothing(self):
        server = self.start_hotlined()
        peer, target = self.peer(echo)
        http = peers.Peer(peers.always())
        self.addCleanup(http.stop)
        lease = self.exclusive(server, target)
        upgrade = pb.Upgrade(protocol="websocket")
        bad = Code.INVALID_ARGUMENT
        for reason, opening in (
                ("BAD_TARGET", {}),
                ("BAD_TARGET", {"target": "tcp://127.0.0.1"}),
                ("BAD_TARGET", {"target": target + "/x"}),
                ("BAD_OPTION", {"target": target, "upgrade": upgrade}),
                ("BAD_OPTION", {"target": http.target}),
                ("BAD_OPTION", {"target": http.target,
                                "upgrade": pb.Upgrade(protocol="a b")}),
                ("BAD_URL", {"target": http.target, "upgrade": pb.Upgrade(
                    protocol="x", path="y")}),
                ("BAD_HEADER", {"target": http.target, "upgrade": pb.Upgrade(
                    protocol="x", headers=[pb.Header(name="Upgrade")])}),
                ("BAD_OPTION", {"target": target, "options":
                                pb.ConnectionOptions(alpn="x")}),
                ("BAD_OPTION", {"target": target,
                                "idle_timeout": duration_pb2.Duration()}),
                ("BAD_LEASE_ID", {"lease_id": "x"}),
                ("BAD_OPTION", {"lease_id": lease, "options":
                                pb.ConnectionOptions(pool_group="x")}),
                ("LEASE_TARGET_MISMATCH", {"lease_id": lease,
                                           "target": "tcp://127.0.0.1:1"})):
            with self.subTest(reason=reason, opening=opening):
                found = self.expect(bad, reason, server, **opening)
                self.assertTrue(found["BadRequest"].field_violations[0].field)
        # Execute and shared leases refuse raw targets.
        with self.assertRaises(grpc.RpcError) as caught:
            server.broker.Execute(pb.ExecuteRequest(url=target), timeout=10)
        self.assert_code(caught.exception, bad, "BAD_URL")
        with self.assertRaises(grpc.RpcError) as caught:
            server.broker.Acquire(pb.AcquireRequest(target=target), timeout=10)
        self.assert_code(caught.exception, bad, "BAD_OPTION")
        self.assertEqual(peer.accepted, 1)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)

    def test_egress_rules_hold(self):
        server = self.start_hotlined()
        self.expect(Code.PERMISSION_DENIED, "EGRESS_DENIED", server,
                    target="tcp://169.254.169.254:80")

    def test_a_wait_that_times_out_explains_itself(self):
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 1}})
        _, target = self.peer(echo)
        first = tunnels.Tunnel(server, target=target)
        found = self.expect(Code.DEADLINE_EXCEEDED, "WAIT_TIMEOUT", server, 1,
                            target=target)
        self.assertEqual(found["WaitExplanation"].limit, "target_connections")
        first.end()
        first.finish()
        self.check_over(server)

    def test_idle_raw_connections_are_probed_by_silence_and_used_once(self):
        server = self.start_hotlined(
            {"pool": {"check_interval": "0.2s"}})
        peer, target = self.peer(echo)
        lease = self.exclusive(server, target)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)
        passed = ('hotline_probes_total{target="%s",result="passed"}' % target)
        wait.until(lambda: server.metrics().get(passed), "it was checked", 20)
        for _ in range(2):
            tunnel = tunnels.Tunnel(server, target=target)
            tunnel.send(b"x")
            self.assertEqual(tunnel.read(1), b"x")
            tunnel.end()
            tunnel.finish()
        self.assertEqual(peer.accepted, 2)
        self.check_over(server)


if __name__ == "__main__":
    unittest.main()
