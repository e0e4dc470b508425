"""Sessions over gRPC, driven from Python: work, limits, sudden death."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import peers
import sessions
import wait

LEASES = 100
ROOM = {"pool": {"max_connections": 400, "max_connections_per_target": 200}}
# So many callers are killed under load; by hand: SESSION_KILLS=1000.
KILLS = int(os.environ.get("SESSION_KILLS", "100"))


def reclaimed(server, target):
    return server.metrics()['hotline_leases_reclaimed_total{target="%s",'
                            'reason="session"}' % target]


class SessionTest(harness.EndToEnd):

    def open(self, server, **options):
        session = sessions.Session(server, **options)
        self.addCleanup(session.cut)
        return session

    def test_a_caller_in_another_language(self):
        upstream, server, target = self.start_both(ROOM)
        session = self.open(server)
        leases = session.ask(acquire=[pb.AcquireRequest(target=target)] * 3)
        ids = [r.acquire.lease.lease_id for r in leases]
        self.assertEqual(len(set(ids)), 3)
        answers = session.ask(execute=[
            pb.ExecuteRequest(url=target + "/", lease_id=i) for i in ids] + [
                pb.ExecuteRequest(url=target + "/")])
        self.assertEqual({a.execute.body for a in answers}, {b"hello\n"})
        renewed = session.ask(renew=[pb.RenewRequest(lease_id=ids[0])])
        self.assertEqual(renewed[0].renew.lease.lease_id, ids[0])
        released = session.ask(release=[pb.ReleaseRequest(lease_id=i)
                                        for i in ids[:2] + ids[:1]])
        self.assertEqual([r.release.already_released for r in released],
                         [False, False, True])
        self.assertEqual(server.stats().totals.sessions, 1)
        rows = server.stats(view=pb.STATS_VIEW_LEASES).leases
        self.assertEqual([r.session for r in rows], [1])
        self.assertEqual(session.close(), [])
        server.check_nothing_held()
        self.assertEqual(server.stats().totals.sessions, 0)
        self.assertEqual(reclaimed(server, target), 1)
        self.assertEqual(len(upstream.requests("good")), 4)
        count = "hotline_rpc_seconds_count{method=\"Session\",code=\"OK\"}"
        wait.until(lambda: server.metrics()[count] == 1, "it is counted")

    def test_half_closing_waits_for_what_runs(self):
        _, server, target = self.start_both(ROOM)
        session = self.open(server)
        session.send(pb.SessionItem(id=1, execute=pb.ExecuteRequest(
            url=target + "/")))
        rest = session.close()
        self.assertEqual([(r.id, r.execute.status) for r in rest], [(1, 200)])

    def test_the_streams_deadline_ends_it(self):
        _, server, target = self.start_both(ROOM)
        session = self.open(server, timeout=3)
        session.ask(acquire=[pb.AcquireRequest(target=target)])
        with self.assertRaises(grpc.RpcError) as caught:
            session.next()
        self.assertEqual(caught.exception.code(),
                         grpc.StatusCode.DEADLINE_EXCEEDED)
        server.check_nothing_held()
        self.assertEqual(reclaimed(server, target), 1)

    def test_a_drain_answers_what_was_read_and_then_says_so(self):
        _, server, target = self.start_both(ROOM)
        idle = self.open(server)
        idle.ask(cancel=[pb.SessionCancelRequest(id=9)])
        session = self.open(server)
        lease, = session.ask(acquire=[pb.AcquireRequest(target=target)])
        lease = lease.acquire.lease.lease_id
        server.process.send_signal(signal.SIGTERM)
        with self.assertRaises(grpc.RpcError) as caught:
            idle.next()
        self.assert_code(caught.exception, grpc.StatusCode.UNAVAILABLE,
                         "DRAINING")
        late, = session.ask(acquire=[pb.AcquireRequest(target=target)])
        self.assertEqual(sessions.reason(late), "DRAINING")
        used, = session.ask(execute=[pb.ExecuteRequest(
            url=target + "/", lease_id=lease)])
        self.assertEqual(used.execute.status, 200)
        session.ask(release=[pb.ReleaseRequest(lease_id=lease)])
        with self.assertRaises(grpc.RpcError) as caught:
            session.next()
        self.assert_code(caught.exception, grpc.StatusCode.UNAVAILABLE,
                         "DRAINING")
        self.assertEqual(server.process.wait(30), 0)
        self.assertEqual(server.stop(), 0)

    def test_one_that_floods_does_not_hold_up_another(self):
        _, server, target = self.start_both(ROOM)
        flood, other = self.open(server), self.open(server)
        other.ask(acquire=[pb.AcquireRequest(target=target)])
        batch = [pb.SessionItem(id=i, renew=pb.RenewRequest(lease_id="0" * 44))
                 for i in range(1, 1025)]
        stop = threading.Event()
        answered = []

        def keep_flooding():
            while not stop.is_set():
                flood.send(*batch)
                for _ in batch:
                    flood.next()
                answered.append(len(batch))
        thread = threading.Thread(target=keep_flooding)
        thread.start()
        try:
            wait.until(lambda: answered, "the flood runs", 30)
            took = []
            for _ in range(200):
                start = time.monotonic()
                other.ask(cancel=[pb.SessionCancelRequest(id=9)])
                took.append(time.monotonic() - start)
        finally:
            stop.set()
            thread.join()
        took.sort()
        # Python itself is slow beside a busy thread; a queue behind the
        # flood's messages would show as seconds.
        self.assertLess(took[len(took) // 2], 0.25)
        self.assertGreater(sum(answered), 1024)


class Callers:
    """Callers in processes of their own, that can be killed one by one."""

    def __init__(self, server, target, leases, *how):
        self._parent = wait.start(
            [sys.executable, "tests/e2e/session_client.py", server.address,
             target, str(leases), *how], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)
        self.wrong = 0

    def start(self):
        self._parent.stdin.write(b"\n")
        self._parent.stdin.flush()

    def holding(self):
        """The process id of the next one that has its leases."""
        while True:
            pid, what = self._parent.stdout.readline().split()
            if what == b"holding":
                return int(pid)
            self.wrong += 1

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)

    def stop(self):
        """Kills all that are left, also those that have no leases yet."""
        if self._parent.poll() is None:
            os.killpg(self._parent.pid, signal.SIGKILL)
            self._parent.wait(30)
            self._parent.stdin.close()
            self._parent.stdout.close()


class DeathTest(harness.EndToEnd):

    def callers(self, *arguments):
        callers = Callers(*arguments)
        self.addCleanup(callers.stop)
        return callers

    def test_100_leases_of_a_killed_caller_are_back_within_a_second(self):
        _, server, target = self.start_both(ROOM)
        callers = self.callers(server, target, LEASES)
        callers.start()
        pid = callers.holding()
        self.assertEqual(server.stats().targets[0].leases, LEASES)
        killed = time.monotonic()
        callers.kill(pid)
        wait.until(lambda: server.stats().targets[0].leases == 0,
                   "the leases are back", 30)
        took = time.monotonic() - killed
        stats = server.stats()
        self.assertEqual(stats.totals.counters.leases_reclaimed, LEASES)
        self.assertEqual(stats.totals.connections.idle, LEASES)
        self.assertEqual(stats.totals.sessions, 0)
        self.assertEqual(reclaimed(server, target), LEASES)
        self.assertLess(took, 1.0)

    def test_killed_under_load_nothing_leaks_and_nothing_is_lent_twice(self):
        """The upstream sees when a second request comes during the first."""
        overlaps = []
        served = []

        def script(connection):
            while request := connection.read_request():
                connection.pause(0.001)
                if connection.has_more():
                    overlaps.append(request)
                served.append(request)
                connection.send(peers.ok(request.headers["x-id"].encode()))
        upstream = peers.Peer(script)
        self.addCleanup(upstream.stop)
        server = self.start_hotlined(
            {"pool": {"max_connections": 64, "max_connections_per_target": 24}})
        dice = random.Random(7)
        callers = self.callers(server, upstream.target, 8, "busy")
        # More than there is room for: some are queued when they are killed.
        for _ in range(4):
            callers.start()
        for _ in range(KILLS):
            pid = callers.holding()
            # At any moment: after some more requests of all callers.
            goal = len(served) + dice.randrange(30)
            wait.until(lambda g=goal: len(served) >= g, "callers make calls")
            callers.kill(pid)
            callers.start()
        callers.stop()
        self.assertEqual(callers.wrong, 0)
        self.assertEqual(overlaps, [])
        wait.until(lambda: server.stats().totals.sessions == 0,
                   "no session is open", 30)
        server.check_nothing_held(30)
        reclaimed_in_all = server.stats().totals.counters.leases_reclaimed
        self.assertGreaterEqual(reclaimed_in_all, 8 * KILLS)
        answer = server.broker.Execute(
            callers_request(upstream.target), timeout=10)
        self.assertEqual(answer.body, b"last")
        print("%d callers killed, %d leases taken back, %d connections made"
              % (KILLS, reclaimed_in_all, server.stats().totals.counters.opened))


def callers_request(target):
    return pb.ExecuteRequest(url=target + "/", headers=[
        pb.Header(name="X-Id", value=b"last")])


if __name__ == "__main__":
    unittest.main()
