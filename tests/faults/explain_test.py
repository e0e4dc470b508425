"""Of each incident `hotline explain` and one metric name the true cause."""

import json
import socket
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import dns
import harness
import hotlined
import peers
import threads
import wait


class ExplainTest(harness.EndToEnd):

    def explain(self, server, target):
        out, _ = self.hotline(server, "explain", "--output", "json", target)
        return json.loads(out)

    def causes(self, server, target):
        return [finding["cause"]
                for finding in self.explain(server, target)["findings"]]

    def assert_first(self, server, target, cause, *words):
        """The summary names this cause, and says these words of it."""
        wait.until(lambda: self.causes(server, target)[:1] == [cause],
                   "explain says " + cause, 30)
        summary = self.explain(server, target)["summary"]
        for word in (cause,) + words:
            self.assertIn(word, summary)
        out, _ = self.hotline(server, "explain", target)
        self.assertIn("\n%s  " % cause, out)

    @staticmethod
    def metric(server, name, **labels):
        """The sum of a metric's samples that have these labels."""
        wanted = ['%s="%s"' % each for each in labels.items()]
        return sum(value for sample, value in server.metrics().items()
                   if sample.split("{")[0] == "hotline_" + name
                   and all(label in sample for label in wanted))

    def fails(self, server, url, timeout=20):
        """A call that ends with an error."""
        with self.assertRaises(grpc.RpcError):
            server.broker.Execute(pb.ExecuteRequest(url=url), timeout=timeout)

    def peer(self, script):
        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        return peer

    def begin(self, server, target, calls):
        """Starts calls that end with the test."""
        begun = [server.broker.Execute.future(
            pb.ExecuteRequest(url=target + "/"), timeout=60)
                 for _ in range(calls)]
        for call in begun:
            self.addCleanup(call.cancel)
        return begun

    def acquire(self, server, target, client_id, ttl=60):
        return server.broker.Acquire(pb.AcquireRequest(
            target=target, lease_ttl=hotlined.seconds(ttl),
            holder=pb.Holder(client_id=client_id, purpose="a test")),
            timeout=20).lease.lease_id

    def test_nothing_is_wrong(self):
        _, server, target = self.start_both()
        self.assertEqual(self.explain(server, target)["summary"],
                         "nothing was asked of this target yet")
        server.broker.Execute(pb.ExecuteRequest(url=target + "/"), timeout=20)
        answer = self.explain(server, target + "/some/path?query")
        self.assertEqual(answer["target"], target)
        self.assertEqual((answer["summary"], answer["findings"]),
                         ("nothing is wrong", []))

    def test_the_name_does_not_resolve(self):
        server_of_names = dns.Dnsmasq(self.directory)
        self.addCleanup(server_of_names.stop)
        server = self.start_hotlined(
            {"upstream": {"dns_servers": [server_of_names.address]}})
        self.fails(server, "https://nothing.test/")
        self.assert_first(server, "https://nothing.test", "DNS_FAILED",
                          "nothing.test")
        self.assertGreater(
            self.metric(server, "dns_total", result="no_address"), 0)
        self.assertEqual(self.metric(server, "dns_total", result="ok"), 0)

    def test_the_upstream_refuses_until_the_breaker_opens(self):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))  # Bound only: dials are refused.
            target = "http://127.0.0.1:%d" % holder.getsockname()[1]
            server = self.start_hotlined(
                {"pool": {"breaker_failures": 1, "breaker_open_for": "600s"}})
            self.fails(server, target + "/", timeout=5)
            self.assert_first(server, target, "CONNECT_FAILED", "refused")
            self.assertIn("CIRCUIT_OPEN", self.causes(server, target))
            self.assertEqual(
                self.metric(server, "breaker_open", target=target), 1)
            self.hotline(server, "reset-breaker", target)
            self.assertEqual(self.causes(server, target), [])
            self.assertEqual(
                self.metric(server, "breaker_open", target=target), 0)

    def test_the_certificate_has_expired(self):
        upstream = self.start_nginx(
            {"old": self.authority.issue("old", days=-1)})
        server = self.start_hotlined()
        target = "https://localhost:%d" % upstream.ports["old"]
        self.fails(server, target + "/")
        self.assert_first(server, target, "TLS_VERIFY_FAILED", "expired")
        self.assertEqual(self.metric(server, "executes_total", target=target,
                                     result="tls_verify_failed"), 1)

    def test_egress_denies_the_address(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined({"egress": {"deny": ["127.0.0.0/8"]}})
        self.fails(server, peer.target + "/")
        self.assert_first(server, peer.target, "EGRESS_DENIED", "127.0.0.1")
        # A target of which only denials are known has no series of its own.
        self.assertEqual(self.metric(server, "executes_total", target="other",
                                     result="egress_denied"), 1)

    def test_the_upstream_is_slow(self):
        answer = threading.Event()

        def slow(connection):
            while connection.read_request() and answer.wait(60):
                connection.send(peers.ok())

        peer = self.peer(slow)
        self.addCleanup(answer.set)
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 2}})
        calls = self.begin(server, peer.target, 3)
        self.assert_first(server, peer.target, "UPSTREAM_SLOW",
                          "2 of 2 slots in use")
        self.assertIn("POOL_FULL", self.causes(server, peer.target))
        answer.set()
        for call in calls:
            self.assertEqual(call.result().status, 200)
        # Of the three answers, the first two began after more than a second.
        self.assertEqual(
            self.metric(server, "first_byte_seconds_count",
                        target=peer.target)
            - self.metric(server, "first_byte_seconds_bucket",
                          target=peer.target, le="0.8192"), 2)

    def test_the_pool_is_full(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 1}})
        lease = self.acquire(server, peer.target, "reports-3")
        self.begin(server, peer.target, 1)
        self.assert_first(server, peer.target, "POOL_FULL", "1 caller waiting",
                          "reports-3 (a test)")
        self.assertEqual(
            self.metric(server, "waiters", target=peer.target), 1)
        self.assertEqual(
            self.metric(server, "connections", target=peer.target,
                        state="leased"),
            self.metric(server, "max_connections", target=peer.target))
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)

    def test_the_broker_is_full(self):
        greedy, other = self.peer(peers.always()), self.peer(peers.always())
        server = self.start_hotlined({"pool": {"max_connections": 1}})
        lease = self.acquire(server, greedy.target, "greedy")
        self.begin(server, other.target, 1)
        self.assert_first(server, other.target, "BROKER_FULL", "1 connection ")
        self.assertEqual(self.metric(server, "pool_budget_waiters"), 1)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)

    def test_a_client_leaks_its_lease_until_an_operator_ends_it(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined(
            {"pool": {"leak_after": "1s", "max_connections_per_target": 1}})
        self.acquire(server, peer.target, "importer-9")
        self.assert_first(server, peer.target, "LEAK", "importer-9 (a test)")
        holding, = self.explain(server, peer.target)["holdings"]
        self.assertEqual(holding["client_id"], "importer-9")
        self.assertEqual(self.metric(server, "leases_suspected_total",
                                     target=peer.target), 1)
        out, _ = self.hotline(server, "lease", "end",
                              str(holding["lease_number"]))
        self.assertIn("ended", out)
        self.assertEqual(self.causes(server, peer.target), [])
        server.check_nothing_held()

    def test_acquires_time_out_because_a_client_holds_the_connections(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 1}})
        lease = self.acquire(server, peer.target, "reports-3")
        with self.assertRaises(grpc.RpcError) as caught:
            server.broker.Acquire(pb.AcquireRequest(
                target=peer.target, max_wait=hotlined.seconds(0.5)),
                timeout=20)
        self.assert_code(caught.exception, grpc.StatusCode.DEADLINE_EXCEEDED,
                         "WAIT_TIMEOUT")
        self.assert_first(server, peer.target, "POOL_FULL",
                          "reports-3 (a test)")
        self.assertEqual(self.metric(server, "acquires_total",
                                     target=peer.target,
                                     result="wait_timeout"), 1)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)

    def test_an_event_loop_is_stuck(self):
        peer = self.peer(peers.always())
        server = self.start_hotlined({"upstream": {"loops": 2}})
        server.broker.Execute(pb.ExecuteRequest(url=peer.target + "/"),
                              timeout=20)
        loops = threads.named(server.process, "hotline-loop")
        with threads.held(loops[:1]):
            self.assert_first(server, peer.target, "LOOP_STUCK", "late")
            self.assertGreater(self.metric(server, "loop_lag_seconds"), 1)
        wait.until(lambda: self.causes(server, peer.target) == [],
                   "the loop runs again", 30)

    def test_connections_drop_often(self):
        def closes(connection):
            if connection.read_request():
                connection.send(peers.ok())

        peer = self.peer(closes)
        server = self.start_hotlined()
        for _ in range(4):
            server.broker.Execute(pb.ExecuteRequest(url=peer.target + "/"),
                                  timeout=20)
        self.assert_first(server, peer.target, "CONNECTIONS_DROP",
                          "ended by the upstream")
        self.assertGreater(self.metric(server, "connections_closed_total",
                                       target=peer.target,
                                       reason="peer_closed"), 2)

    def test_acquires_are_slow_because_of_dns(self):
        peer = self.peer(peers.always())
        forwarder = dns.Forwarder(lambda name: "127.0.0.1", delay=1.2)
        self.addCleanup(forwarder.stop)
        names = dns.Dnsmasq(self.directory, {"slow.test": forwarder.port})
        self.addCleanup(names.stop)
        server = self.start_hotlined(
            {"upstream": {"dns_servers": [names.address]}})
        target = "http://slow.test:%d" % peer.port
        lease = self.acquire(server, target, "reports-3")
        self.assert_first(server, target, "DIALS_SLOW", "resolving the name")
        self.assertGreater(self.metric(server, "dial_seconds_sum",
                                       target=target, phase="resolve"), 1)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)

    def test_the_upstream_has_an_idle_limit(self):
        upstream, server, target = self.start_both(
            extra="keepalive_timeout 1s;")
        for _ in range(2):
            leases = [self.acquire(server, target, "reports-%d" % number)
                      for number in range(2)]
            for lease in leases:
                server.broker.Execute(pb.ExecuteRequest(
                    url=target + "/", lease_id=lease), timeout=20)
            for lease in leases:
                server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                      timeout=20)
            wait.until(lambda: upstream.open_connections() == 0,
                       "nginx has closed them", 30)
        self.assert_first(server, target, "IDLE_LIMIT",
                          "closes idle connections after")
        self.assertEqual(self.metric(server, "connections_closed_total",
                                     target=target, reason="peer_closed"), 4)

    def test_a_quota_is_used_up(self):
        """A caller's limit, not the target's: the error and the metric."""
        peer = self.peer(peers.always())
        server = self.start_hotlined({"policy": {"rules": [
            {"identities": ["anonymous"], "max_leases": 1}]}})
        lease = self.acquire(server, peer.target, "greedy")
        with self.assertRaises(grpc.RpcError) as caught:
            self.acquire(server, peer.target, "greedy")
        self.assert_code(caught.exception,
                         grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA")
        self.assertIn("max_leases is 1", caught.exception.details())
        self.assertEqual(self.metric(server, "denials_total",
                                     method="Acquire", reason="quota"), 1)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)


if __name__ == "__main__":
    unittest.main()
