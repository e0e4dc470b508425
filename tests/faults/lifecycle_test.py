"""SIGTERM, reloads and killed clients, under load."""

import collections
import os
import signal
import subprocess
import sys
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import callers
import certs
import harness
import peers
import wait


def threads_of(process):
    return len(os.listdir("/proc/%d/task" % process.pid))


class SigtermTest(harness.EndToEnd):
    """Calls that outlast the signal, leases that are held, calls that wait."""

    def setUp(self):
        super().setUp()
        # Ids of the requests that arrived.
        self.seen = []
        self.release = threading.Event()
        self.peer = peers.Peer(self.script)
        self.addCleanup(self.peer.stop)
        self.addCleanup(self.release.set)

    def script(self, connection):
        while True:
            request = connection.read_request()
            if request is None:
                return
            number = int(request.headers["x-id"])
            self.seen.append(number)
            if request.path == "/held":
                self.release.wait(30)
            if not connection.send(peers.ok(b"%d" % number)):
                return

    def check(self, outcomes):
        """No request that reached the upstream is lost or answered wrongly."""
        seen = collections.Counter(self.seen)
        tally = collections.Counter()
        for number, outcome in outcomes.items():
            if not isinstance(outcome, grpc.RpcError):
                tally["OK"] += 1
                self.assertEqual(outcome.body, b"%d" % number)
                self.assertEqual(seen[number], 1)
                continue
            code, reason, verdict = callers.describe(outcome)
            tally[(code, reason, verdict)] += 1
            if (code, reason) == ("ABORTED", "UPSTREAM_RESET"):
                self.assertLessEqual(seen[number], 1)
            else:
                # Typed or not: what was not ABORTED was not processed.
                self.assertEqual(seen[number], 0, (code, reason, verdict))
        return tally

    def terminate(self, grace, let_go):
        """One server under load gets SIGTERM; how its calls ended."""
        self.seen.clear()
        self.release.clear()
        server = self.start_hotlined(
            {"shutdown_grace": grace,
             "pool": {"max_connections_per_target": 12}})
        url = self.peer.target
        lease = server.broker.Acquire(pb.AcquireRequest(target=url),
                                      timeout=10).lease.lease_id
        held = {}
        for number in range(1000000, 1000004):
            held[number] = server.broker.Execute.future(
                callers.request(url + "/held", number, "POST"), timeout=60)
        load = callers.Load(8, lambda number: server.broker.Execute(
            callers.request(url + "/", number, "POST"), timeout=20))
        wait.until(lambda: load.done() > 50 and len(
            [n for n in self.seen if n >= 1000000]) == 4, "calls run", 30)
        server.process.send_signal(signal.SIGTERM)
        wait.until(lambda: any(
            callers.describe(o)[1] == "DRAINING" for o in
            list(load.outcomes.values()) if isinstance(o, grpc.RpcError)),
                   "new calls are refused")
        if let_go:
            self.release.set()
            # The lease works until it is given back.
            answer = server.broker.Execute(
                callers.request(url + "/", 2000000, lease_id=lease),
                timeout=10)
            self.assertEqual(answer.body, b"2000000")
            server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                  timeout=10)
        code = server.process.wait(30)
        outcomes = load.stop()
        for number, call in held.items():
            outcomes[number] = call.exception() or call.result()
        self.release.set()
        self.assertEqual(code, 0, server.log())
        self.assertIn("stopped", server.log())
        server.stop()
        wait.until(lambda: self.peer.open == 0, "no connection is left")
        tally = self.check(outcomes)
        self.assertGreater(tally["OK"], 50)
        return tally, {n: outcomes[n] for n in held}

    def test_running_calls_complete_within_the_grace(self):
        for _ in range(10):
            tally, held = self.terminate("20s", let_go=True)
            for outcome in held.values():
                self.assertEqual(outcome.status, 200)
            # With enough time no call is broken off.
            self.assertEqual([k for k in tally if k[0] == "ABORTED"], [])
        print("the last one:", dict(tally))

    def test_calls_cut_off_by_the_grace_report_their_verdict(self):
        for _ in range(10):
            tally, held = self.terminate("0.3s", let_go=False)
            for outcome in held.values():
                self.assertEqual(
                    callers.describe(outcome),
                    ("ABORTED", "UPSTREAM_RESET", "SENT_UNKNOWN"))
        print("the last one:", dict(tally))

    def test_a_second_signal_ends_the_grace(self):
        server = self.start_hotlined({"shutdown_grace": "60s"})
        call = server.broker.Execute.future(
            callers.request(self.peer.target + "/held", 1), timeout=60)
        wait.until(lambda: self.seen, "it runs")
        server.process.send_signal(signal.SIGTERM)
        wait.until(lambda: server.page("/readyz")[0] == 503, "it drains")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(20), 0)
        self.assertEqual(callers.describe(call.exception()),
                         ("ABORTED", "UPSTREAM_RESET", "SENT_UNKNOWN"))
        server.stop()


class ReloadTest(harness.EndToEnd):

    # Each makes the whole file one that must be refused.
    BAD = [
        {"nonsense": 1},
        {"pool": {"max_conections": 5}},
        {"pool": {"max_connections": 0}},
        {"pool": {"idle_timeout": "soon"}},
        {"pool": {"max_connections_per_target": "ten"}},
        {"targets": [{"target": "ftp://x"}]},
        {"egress": {"allow": ["300.0.0.0/8"]}},
        # Parsed, and found wanting only when it is put into force.
        {"upstream": {"ca_file": "/nonexistent/ca.pem"}},
    ]

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()
        self.good = dict(self.server.config)
        self.expected = 0  # Reloads so far.

    def reload(self, change, ok, by_signal=True):
        """Writes the good file with `change`, and waits until it was read."""
        self.server.config = {**self.good, **{
            key: ({**self.good.get(key, {}), **value}
                  if isinstance(value, dict) else value)
            for key, value in change.items()}}
        self.server.write_config()
        if by_signal:
            self.server.process.send_signal(signal.SIGHUP)
        self.expected += 1
        wait.until(lambda: self.server.log().count("configuration re")
                   >= self.expected, "reload %d" % self.expected)
        # A change of the file is looked for once a second; where a signal
        # came first, the file has been read already.
        self.assertEqual(self.server.log().count("configuration re"),
                         self.expected)
        self.assertEqual(self.server.metrics()[
            "hotline_config_last_reload_successful"], ok)

    def own_descriptors(self):
        """Without those of upstream connections."""
        counts = self.server.stats().totals.connections
        return self.server.descriptors() - counts.idle - counts.leased

    def limit(self):
        return self.server.stats(target=self.target).targets[0].max_connections

    def test_100_good_and_bad_reloads_leak_nothing(self):
        url = self.target + "/echo"
        load = callers.Load(4, lambda number: self.server.broker.Execute(
            callers.request(url, number), timeout=20))
        try:
            wait.until(lambda: load.done() > 20, "calls run", 30)
            descriptors = threads = None
            limit = 10
            for i in range(100):
                if i % 2:
                    # Whatever is wrong, the previous file stays in force.
                    self.reload(self.BAD[i // 2 % len(self.BAD)], ok=0)
                else:
                    limit = 3 + i // 2 % 5
                    self.reload(
                        {"pool": {"max_connections_per_target": limit},
                         "log": {"format": "text" if i % 4 else "json"}},
                        ok=1, by_signal=i % 20 != 0)
                self.assertEqual(self.limit(), limit)
                if i == 20:
                    descriptors = self.own_descriptors()
                    threads = threads_of(self.server.process)
        finally:
            outcomes = load.stop()
        failed = [o for o in outcomes.values() if isinstance(o, grpc.RpcError)]
        self.assertEqual([callers.describe(o) for o in failed], [])
        for number, answer in outcomes.items():
            self.assertEqual(answer.body, b"GET %d\n" % number)
        self.server.check_nothing_held()
        wait.until(lambda: self.own_descriptors() <= descriptors,
                   "descriptors as after twenty")
        self.assertLessEqual(threads_of(self.server.process), threads)
        print("%d calls over 100 reloads" % len(outcomes))

    def test_a_lowered_limit_drains_without_breaking_leases(self):
        leases = [self.server.broker.Acquire(
            pb.AcquireRequest(target=self.target), timeout=10).lease.lease_id
                  for _ in range(8)]
        self.reload({"pool": {"max_connections_per_target": 2}}, ok=1)
        self.assertEqual(self.limit(), 2)
        for lease in leases:
            answer = self.server.broker.Execute(
                pb.ExecuteRequest(url=self.target + "/", lease_id=lease),
                timeout=10)
            self.assertEqual(answer.status, 200)
        self.assertEqual(self.upstream.open_connections(), 8)
        # Another one waits: there are more than enough.
        waiting = self.server.broker.Execute.future(
            pb.ExecuteRequest(url=self.target + "/"), timeout=30)
        for count, lease in enumerate(leases[:6], 1):
            self.server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                       timeout=10)
            wait.until(lambda c=count: self.upstream.open_connections()
                       == 8 - c, "it is closed")
            self.assertFalse(waiting.done())
        self.server.broker.Release(pb.ReleaseRequest(lease_id=leases[6]),
                                   timeout=10)
        self.assertEqual(waiting.result().status, 200)
        self.server.broker.Release(pb.ReleaseRequest(lease_id=leases[7]),
                                   timeout=10)
        self.server.check_nothing_held()
        self.assertLessEqual(self.upstream.open_connections(), 2)
        self.assertEqual(self.upstream.accepted_connections(), 8)

    def test_new_rules_hold_for_the_next_dial(self):
        execute = lambda: self.server.broker.Execute(
            pb.ExecuteRequest(url=self.target + "/"), timeout=10)
        self.assertEqual(execute().status, 200)
        stranger = certs.Authority(self.directory, "stranger")
        self.reload({"upstream": {"ca_file": stranger.cert}}, ok=1)
        # Connections verified by the old authority stay; new dials fail.
        lease = self.server.broker.Acquire(
            pb.AcquireRequest(target=self.target), timeout=10)
        self.assertTrue(lease.connection.reused)
        self.server.broker.Release(pb.ReleaseRequest(
            lease_id=lease.lease.lease_id, outcome=pb.OUTCOME_DISCARD),
                                   timeout=10)
        with self.assertRaises(grpc.RpcError) as caught:
            execute()
        self.assert_code(caught.exception,
                         grpc.StatusCode.FAILED_PRECONDITION,
                         "TLS_VERIFY_FAILED")
        self.reload({}, ok=1)
        self.assertEqual(execute().status, 200)


# Holds two leases, runs a call on one, waits for a third: then it is killed.
_VICTIM = """
import sys
import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc
stub = broker_pb2_grpc.BrokerStub(grpc.insecure_channel(sys.argv[1]))
target = sys.argv[2]
request = pb.AcquireRequest(target=target)
request.lease_ttl.FromMilliseconds(1500)
leases = [stub.Acquire(request, timeout=10).lease.lease_id for _ in "ab"]
calls = [stub.Execute.future(pb.ExecuteRequest(
    url=target + "/held", lease_id=leases[0]), timeout=60)]
calls += [stub.Acquire.future(request, timeout=60) for _ in range(3)]
print("ready", flush=True)
sys.stdin.read()
"""


class KilledClientTest(harness.EndToEnd):

    def test_a_killed_clients_leases_return_and_its_answers_are_dropped(self):
        held = threading.Event()

        def script(connection):
            while True:
                request = connection.read_request()
                if request is None:
                    return
                if request.path == "/held":
                    held.wait(30)
                if not connection.send(peers.ok(request.path.encode())):
                    return

        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        self.addCleanup(held.set)
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 2}})
        for round_ in range(3):
            held.clear()
            victim = wait.start(
                [sys.executable, "-c", _VICTIM, server.address, peer.target],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.addCleanup(victim.stdin.close)
            self.addCleanup(victim.stdout.close)
            self.assertEqual(victim.stdout.readline(), b"ready\n")
            wait.until(lambda: server.stats().totals.waiters == 3
                       and any(l.busy for l in server.stats(
                           view=pb.STATS_VIEW_LEASES).leases), "it holds all")
            others = [server.broker.Execute.future(
                pb.ExecuteRequest(url=peer.target + "/%d/%d" % (round_, i)),
                timeout=30) for i in range(20)]
            wait.end(victim, signal.SIGKILL)
            # Its waiters are dropped at once, its running call ends with its
            # connection, its other lease by TTL. Nothing is released.
            for i, call in enumerate(others):
                self.assertEqual(call.result().body,
                                 b"/%d/%d" % (round_, i))
            held.set()
            server.check_nothing_held()
        counters = server.stats().totals.counters
        self.assertGreaterEqual(counters.leases_expired, 3)
        # All is as it was: both slots can be had.
        for lease in [server.broker.Acquire(
                pb.AcquireRequest(target=peer.target), timeout=10)
                      for _ in range(2)]:
            server.broker.Release(pb.ReleaseRequest(
                lease_id=lease.lease.lease_id), timeout=10)
        server.check_nothing_held()


if __name__ == "__main__":
    unittest.main()
