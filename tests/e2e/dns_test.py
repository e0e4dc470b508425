"""Names that change, fail, rebind or are slow, with a real DNS server."""

import threading
import time
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import dns
import harness
import peers
import wait


class DnsTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.failing = dns.Forwarder(lambda name: None)
        self.addCleanup(self.failing.stop)
        self.slow = dns.Forwarder(lambda name: "127.0.0.1", delay=0.7)
        self.addCleanup(self.slow.stop)
        self.flaky = dns.Forwarder(lambda name: self.flaky_answer)
        self.flaky_answer = "127.0.0.1"
        self.addCleanup(self.flaky.stop)
        self.dns = dns.Dnsmasq(
            self.directory, {"fail.test": self.failing.port,
                             "flaky.test": self.flaky.port,
                             "slow.test": self.slow.port},
            options=["--txt-record=empty.test,nothing else"])
        self.addCleanup(self.dns.stop)
        # One port on several loopback addresses, as a service has.
        self.peers = {}
        for last in (1, 2, 3, 4):
            port = self.peers[1].port if self.peers else 0
            self.peers[last] = peers.Peer(peers.always(), port=port,
                                          host="127.0.0.%d" % last)
            self.addCleanup(self.peers[last].stop)
        self.port = self.peers[1].port

    def start(self, egress=None):
        config = {
            "pool": {"idle_timeout": "600s", "check_interval": "600s"},
            "upstream": {"dns_servers": [self.dns.address],
                         "address_grace": "1s"},
        }
        if egress:
            config["egress"] = egress
        self.server = self.start_hotlined(config)

    def target(self, name):
        return "http://%s.test:%d" % (name, self.port)

    def get(self, name, timeout=20):
        return self.server.broker.Execute(
            pb.ExecuteRequest(url=self.target(name) + "/"), timeout=timeout)

    def fails(self, name, code, reason):
        with self.assertRaises(grpc.RpcError) as caught:
            self.get(name)
        self.assert_code(caught.exception, code, reason)

    def fill(self, name, count=8):
        """Makes this many idle connections."""
        leases = [self.server.broker.Acquire(
            pb.AcquireRequest(target=self.target(name)), timeout=20)
            for _ in range(count)]
        for lease in leases:
            self.server.broker.Release(
                pb.ReleaseRequest(lease_id=lease.lease.lease_id), timeout=20)

    def row(self, name):
        return self.server.stats(target=self.target(name)).targets[0]

    def states(self, name):
        return {a.address: a.state for a in self.row(name).addresses}

    def connections(self, name):
        return {a.address: a.connections for a in self.row(name).addresses
                if a.connections}

    def test_rotation_closes_nothing(self):
        self.dns.set(rotating=["127.0.0.1", "127.0.0.2"])
        self.start()
        wait.until(lambda: self.get("rotating").status == 200, "it answers")
        self.fill("rotating")
        before = self.connections("rotating")
        self.assertEqual(sorted(before), ["127.0.0.1", "127.0.0.2"])
        pairs = ["127.0.0.1", "127.0.0.2"], ["127.0.0.3", "127.0.0.4"]
        for gone, now in (pairs, reversed(pairs)):
            self.dns.set(rotating=now)
            wait.until(lambda g=gone[0]: self.states("rotating").get(g)
                       in ("SUSPECT", None), "the next answer is there", 30)
            self.assertEqual(self.get("rotating").status, 200)
        self.assertEqual(self.connections("rotating"), before)
        self.assertEqual(self.row("rotating").counters.closed, 0)

    def test_a_migration_moves_all_connections_and_fails_no_call(self):
        self.dns.set(moving=["127.0.0.1", "127.0.0.2"])
        self.start()
        wait.until(lambda: self.get("moving").status == 200, "it answers")
        self.fill("moving")
        failed = []
        done = threading.Event()

        def call():
            while not done.wait(0.02):
                try:
                    self.get("moving")
                except grpc.RpcError as error:
                    failed.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        self.dns.set(moving=["127.0.0.3", "127.0.0.4"])
        try:
            # Three answers, five seconds apart at least, and the grace.
            wait.until(lambda: set(self.connections("moving"))
                       <= {"127.0.0.3", "127.0.0.4"}, "all have moved", 60)
            wait.until(lambda: sorted(self.states("moving"))
                       == ["127.0.0.3", "127.0.0.4"], "and are forgotten", 60)
            wait.until(lambda: self.peers[3].accepted + self.peers[4].accepted,
                       "the new ones serve")
        finally:
            done.set()
            caller.join()
        self.assertEqual(failed, [])
        self.assertEqual((self.peers[1].open, self.peers[2].open), (0, 0))
        self.assertIn("event=drained", self.server.log())
        self.server.check_nothing_held()

    def test_a_name_without_addresses_fails_at_once(self):
        self.start()
        for name in ("nowhere", "fail", "empty"):
            with self.subTest(name):
                begin = time.monotonic()
                self.fails(name, grpc.StatusCode.UNAVAILABLE, "DNS_FAILED")
                self.assertLess(time.monotonic() - begin, 15)
        self.assertGreater(self.failing.questions, 0)

    def test_known_addresses_stay_in_use_while_dns_fails(self):
        self.dns.set(vanishing=["127.0.0.1"])
        self.start()
        wait.until(lambda: self.get("vanishing").status == 200, "it answers")
        self.assertEqual(self.get("flaky").status, 200)
        self.flaky_answer = None    # SERVFAIL.
        self.dns.set(vanishing=[])  # NXDOMAIN.
        for name in ("flaky", "vanishing"):
            log = 'target=http://%s.test' % name
            wait.until(lambda l=log: any(
                "DNS fails" in line and l in line
                for line in self.server.log().splitlines()),
                "the log says so", 60)
            self.assertEqual(self.states(name), {"127.0.0.1": "ACTIVE"})
            self.assertEqual(self.get(name).status, 200)

    def test_of_two_hundred_addresses_sixty_four_are_kept(self):
        self.dns.set(many=["127.1.0.%d" % i for i in range(1, 201)])
        self.start()

        def refused():
            try:
                self.get("many")
            except grpc.RpcError as error:
                return "CONNECT_FAILED" in str(error.trailing_metadata())
            return False

        wait.until(refused, "nobody listens there", 60)
        self.assertEqual(len(self.row("many").addresses), 64)

    def test_a_slow_name_delays_no_other_target(self):
        self.dns.set(quick=["127.0.0.1"])
        self.start()
        wait.until(lambda: self.get("quick").status == 200, "it answers")
        result = []
        slow = threading.Thread(target=lambda: result.append(self.get("slow")))
        begin = time.monotonic()
        slow.start()
        served = 0
        while slow.is_alive():
            self.get("quick")
            served += 1
        slow.join()
        self.assertEqual(result[0].status, 200)
        self.assertGreaterEqual(time.monotonic() - begin, 0.7)
        self.assertGreater(served, 10)

    def test_rebinding_reaches_no_denied_address(self):
        egress = {"allow": ["127.0.0.2/32", "127.0.0.3/32"]}
        self.dns.set(rebind=["127.0.0.2"], metadata=["169.254.169.254"],
                     inside=["127.0.0.1"])
        self.start(egress)
        wait.until(lambda: self.get("rebind").status == 200, "it answers")
        denied = grpc.StatusCode.PERMISSION_DENIED
        self.fails("metadata", denied, "EGRESS_DENIED")
        self.fails("inside", denied, "EGRESS_DENIED")
        # What it names next is forbidden: nothing moves there.
        self.dns.set(rebind=["127.0.0.1", "169.254.169.254"])
        wait.until(lambda: "127.0.0.1" in self.states("rebind"), "the next "
                   "answer is there", 30)
        for _ in range(20):
            lease = self.server.broker.Acquire(pb.AcquireRequest(
                target=self.target("rebind"), reuse=pb.REUSE_FORCE_NEW),
                timeout=20)
            self.server.broker.Release(pb.ReleaseRequest(
                lease_id=lease.lease.lease_id, outcome=pb.OUTCOME_DISCARD),
                timeout=20)
        self.assertEqual(self.states("rebind"),
                         {"127.0.0.1": "DENIED", "127.0.0.2": "SUSPECT",
                          "169.254.169.254": "DENIED"})
        self.assertEqual(self.peers[1].accepted, 0)


if __name__ == "__main__":
    unittest.main()
