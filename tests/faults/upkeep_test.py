"""Upkeep of idle connections, and what metrics and log say of it."""

import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import callers
import certs
import harness
import peers
import wait


class UpkeepTest(harness.EndToEnd):

    def total(self, server, name, **labels):
        """The sum of a metric's samples that have these labels."""
        wanted = ['%s="%s"' % label for label in labels.items()]
        return sum(value for sample, value in server.metrics().items()
                   if sample.split("{")[0] == "hotline_" + name
                   and all(label in sample for label in wanted))

    def peer(self, script):
        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        return peer

    def get(self, server, target, timeout=10):
        return server.broker.Execute(pb.ExecuteRequest(url=target + "/"),
                                     timeout=timeout)


class WarmTest(UpkeepTest):

    def test_the_warm_floor_is_filled_before_the_first_call_and_kept(self):
        connections, requests = [], []

        def script(connection):
            connections.append(connection)
            while True:
                request = connection.read_request()
                if request is None:
                    return
                requests.append(request)
                connection.send(peers.ok())

        peer = self.peer(script)
        server = self.start_hotlined(
            {"pool": {"idle_timeout": "0.3s"},
             "targets": [{"target": peer.target, "warm": 3}]})
        wait.until(lambda: peer.open == 3, "three are made")
        self.assertEqual(requests, [])
        # A call finds one that is ready: no dial in its timings, no wait.
        answer = self.get(server, peer.target)
        self.assertFalse(answer.receipt.connection.reused)
        self.assertFalse(answer.receipt.HasField("wait"))
        self.assertFalse(answer.receipt.timings.HasField("connect"))
        # Connections above the floor close after the idle timeout, …
        leases = [server.broker.Acquire(
            pb.AcquireRequest(target=peer.target), timeout=10).lease.lease_id
                  for _ in range(5)]
        for lease in leases:
            server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                  timeout=10)
        wait.until(lambda: server.stats().totals.connections.idle == 3,
                   "back at the floor")
        wait.until(lambda: peer.open == 3, "closed")
        # … and what the upstream closes is made anew.
        accepted = peer.accepted
        for connection in list(connections):
            connection.hang_up()
        wait.until(lambda: peer.accepted == accepted + 3,
                   "three more are made")
        wait.until(lambda: server.stats().totals.connections.idle == 3,
                   "the floor is there again")
        self.assertEqual(self.total(server, "warm_deficit"), 0)


class EndTest(UpkeepTest):

    def test_idle_connections_are_swept(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined({"pool": {"idle_timeout": "0.2s"}})
        self.get(server, peer.target)
        wait.until(lambda: peer.open == 0, "it is closed")
        self.assertEqual(self.total(server, "connections_closed_total",
                                    reason="idle"), 1)
        self.assertEqual(self.get(server, peer.target).status, 200)

    def test_a_lifetime_ends_between_calls_and_not_for_all_at_once(self):
        ended = []

        def script(connection):
            peers.always()(connection)
            ended.append(connection.index)

        peer = self.peer(script)
        server = self.start_hotlined({"pool": {"max_lifetime": "1s"}})
        load = callers.Load(6, lambda number: self.get(server, peer.target))
        try:
            wait.until(lambda: self.total(
                server, "connections_closed_total", reason="lifetime") >= 6,
                       "some are retired", 30)
        finally:
            outcomes = load.stop()
        failed = [callers.describe(o) for o in outcomes.values()
                  if isinstance(o, grpc.RpcError)]
        self.assertEqual(failed, [], "nobody notices")
        ages = [o.receipt.connection.age.ToMilliseconds()
                for o in outcomes.values()]
        # Ten per cent more than the lifetime, and what a slow machine adds.
        self.assertLess(max(ages), 3000)
        server.check_nothing_held()


class ProbeTest(UpkeepTest):

    def test_idle_connections_are_probed_in_the_background(self):
        heads = []

        def script(connection):
            while True:
                request = connection.read_request()
                if request is None:
                    return
                if request.method == "HEAD":
                    heads.append(request.path)
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        peer = self.peer(script)
        server = self.start_hotlined({"pool": {"check_interval": "0.1s"}})
        self.get(server, peer.target)
        wait.until(lambda: len(heads) >= 3, "it is checked again and again")
        self.assertEqual(set(heads), {"/"})
        wait.until(lambda: self.total(server, "probes_total",
                                      result="passed") >= 3, "counted")
        self.assertTrue(self.get(server, peer.target).receipt.connection.reused)
        self.assertEqual(peer.accepted, 1)
        # Probes are not counted as calls.
        self.assertEqual(server.stats().totals.counters.executes, 2)

    def test_a_failed_probe_replaces_a_connection_and_delays_no_call(self):
        bad = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"

        def script(connection):
            while True:
                request = connection.read_request()
                if request is None:
                    return
                connection.send(bad if request.method == "HEAD" else peers.ok())

        peer = self.peer(script)
        server = self.start_hotlined(
            {"pool": {"check_interval": "0.1s"},
             "targets": [{"target": peer.target, "probe": {
                 "path": "/", "min_status": 200, "max_status": 399}}]})
        self.get(server, peer.target)
        wait.until(lambda: self.total(
            server, "connections_closed_total", reason="probe_failed") >= 1,
                   "it is closed")
        self.assertGreaterEqual(
            self.total(server, "probes_total", result="failed"), 1)
        self.assertEqual(self.get(server, peer.target).status, 200)
        self.assertGreaterEqual(peer.accepted, 2)

    def test_a_check_that_gets_no_answer_is_over_at_its_timeout(self):
        def script(connection):
            while True:
                request = connection.read_request()
                if request is None:
                    return
                if request.method == "HEAD":
                    return connection.await_close()
                connection.send(peers.ok())

        peer = self.peer(script)
        server = self.start_hotlined(
            {"pool": {"check_interval": "0.1s", "probe_timeout": "0.5s"}})
        self.get(server, peer.target)
        wait.until(lambda: server.stats().totals.connections.probing == 1,
                   "it is being checked")
        # A caller that comes now gets another one at once.
        answer = self.get(server, peer.target)
        self.assertFalse(answer.receipt.connection.reused)
        wait.until(lambda: self.total(
            server, "connections_closed_total", reason="probe_failed") >= 1,
                   "the timeout ends it")


class DiagnosisTest(UpkeepTest):

    def test_a_suspected_leak_is_reported_once(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined({"pool": {"leak_after": "0.3s"}})
        lease = server.broker.Acquire(pb.AcquireRequest(
            target=peer.target, holder=pb.Holder(client_id="forgetful",
                                                 purpose="nightly job")),
                                      timeout=10).lease.lease_id
        wait.until(lambda: self.total(server, "leases_suspected_total") == 1,
                   "it is counted")
        wait.until(lambda: "suspected leak" in server.log(), "it is logged")
        self.assertFalse(threading.Event().wait(0.7))
        self.assertEqual(server.log().count("suspected leak"), 1)
        line = next(l for l in server.log().splitlines()
                    if "suspected leak" in l)
        for part in ("forgetful", "nightly job", peer.target):
            self.assertIn(part, line)
        self.assertNotIn(lease, server.log())
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)

    def test_a_lease_that_ran_out_is_counted(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined()
        request = pb.AcquireRequest(target=peer.target)
        request.lease_ttl.FromMilliseconds(100)
        server.broker.Acquire(request, timeout=10)
        wait.until(lambda: self.total(server, "leases_reclaimed_total",
                                      reason="expired") == 1, "counted")
        wait.until(lambda: self.total(server, "connections_closed_total",
                                      reason="expired") == 1, "closed")
        server.check_nothing_held()

    def test_failures_are_told_apart_by_class(self):
        foreign = certs.self_signed(self.directory)
        upstream = self.start_nginx(
            {"self": foreign, "good": self.authority.issue("good")})
        validated = "https://localhost:%d" % upstream.ports["good"]
        server = self.start_hotlined(
            {"targets": [{"target": validated,
                          "validate": {"path": "/500"}}]})
        bad = {"network": "http://127.0.0.1:1",
               "tls": "https://localhost:%d" % upstream.ports["self"],
               "validation": validated, "policy": "http://169.254.169.254"}
        for target in bad.values():
            with self.assertRaises(grpc.RpcError):
                server.broker.Execute(pb.ExecuteRequest(
                    url=target + "/", retry=pb.RetryPolicy(max_attempts=1)),
                                      timeout=10)
        for failure, target in bad.items():
            with self.subTest(failure):
                # A refused target gets no series of its own.
                label_of = ("other" if failure == "policy" else target)
                for name, label in (("errors_total", "class"),
                                    ("dials_total", "result")):
                    self.assertEqual(self.total(server, name, **{
                        "target": label_of, label: failure}), 1)

    def test_the_acquire_path_can_be_followed_in_the_log(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined(
            {"log": {"level": "debug", "format": "json"}})
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        server.broker.Execute(pb.ExecuteRequest(url=peer.target + "/"),
                              timeout=10, metadata=[("traceparent", trace)])
        granted = [l for l in server.log().splitlines() if '"granted"' in l]
        self.assertEqual(len(granted), 1)
        self.assertIn(trace, granted[0])
        self.assertIn(peer.target, granted[0])
        with self.assertRaises(grpc.RpcError):
            server.broker.Acquire(pb.AcquireRequest(
                target=peer.target, reuse=pb.REUSE_REQUIRE_WARM,
                options=pb.ConnectionOptions(pool_group="g")), timeout=10)
        self.assertIn('"refused"', server.log())


if __name__ == "__main__":
    unittest.main()
