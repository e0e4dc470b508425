"""Many callers at once against a small limit."""

import threading
import time
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import crowd
import harness
import hotlined
import wait

LIMIT = 10


class Peak:
    """The most connections nginx has open, looked at again and again."""

    def __init__(self, upstream):
        self.most = 0
        self.looks = 0
        self._upstream = upstream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        while not self._stop.wait(0.02):
            self.most = max(self.most, self._upstream.open_connections())
            self.looks += 1

    def stop(self):
        self._stop.set()
        self._thread.join()


class ExecuteLoadTest(harness.EndToEnd):

    def test_10000_executes_need_10_connections_and_10_handshakes(self):
        upstream, server, target = self.start_both(
            {"pool": {"max_connections_per_target": LIMIT}})
        peak = Peak(upstream)
        try:
            calls = crowd.Crowd(
                64, 10000, lambda number: server.broker.Execute.future(
                    pb.ExecuteRequest(url=target + "/", headers=[
                        pb.Header(name="X-Id", value=b"%d" % number)]),
                    timeout=30))
        finally:
            peak.stop()
        self.assertEqual([e.details() for e in calls.errors], [])
        self.assertEqual(len(calls.answers), 10000)
        self.assertTrue(all(a.status == 200 and a.body == b"hello\n"
                            for a in calls.answers))

        requests = upstream.requests("good")
        self.assertEqual(sorted(int(r.id) for r in requests),
                         list(range(10000)), "each sent once")
        self.assertGreater(peak.looks, 10)
        self.assertLessEqual(peak.most, LIMIT)
        # A connection makes one handshake: as many were accepted in all.
        self.assertLessEqual(upstream.accepted_connections(), LIMIT)
        self.assertLessEqual(len({r.connection for r in requests}), LIMIT)

        counters = server.stats().totals.counters
        self.assertEqual(counters.executes, 10000)
        self.assertEqual(counters.execute_failures, 0)
        self.assertEqual(counters.opened, upstream.accepted_connections())
        server.check_nothing_held()
        reused = sum(a.receipt.connection.reused for a in calls.answers)
        print("%d executes, %d on a connection used before, %d handshakes"
              % (len(calls.answers), reused, counters.opened))


class AcquireLoadTest(harness.EndToEnd):

    CONFIG = {"pool": {"max_connections_per_target": LIMIT,
                       "idle_timeout": "1s"}}

    def acquire(self, server, target, timeout):
        return server.broker.Acquire.future(
            pb.AcquireRequest(target=target), timeout=timeout)

    def release(self, server, answer):
        server.broker.Release(
            pb.ReleaseRequest(lease_id=answer.lease.lease_id), timeout=10)

    def test_1000_on_a_cold_target_are_all_served(self):
        upstream, server, target = self.start_both(self.CONFIG)
        server.stats()  # So that our own connection is there already.
        descriptors = server.descriptors()
        lock = threading.Lock()
        held, most = set(), [0]
        done = threading.Semaphore(0)
        failures = []

        def served(call):
            if call.code() != grpc.StatusCode.OK:
                failures.append(call.details())
                done.release()
                return
            lease = call.result().lease.lease_id
            connection = call.result().connection.connection_id
            with lock:
                if connection in held:
                    failures.append("connection %d lent twice" % connection)
                held.add(connection)
                most[0] = max(most[0], len(held))
                held.remove(connection)
            given_back = server.broker.Release.future(
                pb.ReleaseRequest(lease_id=lease), timeout=30)
            given_back.add_done_callback(lambda _: done.release())

        for _ in range(1000):
            self.acquire(server, target, 30).add_done_callback(served)
        for _ in range(1000):
            self.assertTrue(done.acquire(timeout=60))
        self.assertEqual(failures, [])
        self.assertLessEqual(upstream.accepted_connections(), LIMIT)
        server.check_nothing_held()
        server.check_descriptors(descriptors)

    def test_a_wait_that_times_out_explains_itself_in_time(self):
        _, server, target = self.start_both(self.CONFIG)
        server.stats()
        descriptors = server.descriptors()
        # All give up at one moment. That is what max_wait is for: the call's
        # own deadline would leave 50 ms to deliver a thousand explanations.
        request = pb.AcquireRequest(target=target)
        request.max_wait.FromSeconds(2)
        start = time.monotonic()
        calls, ends = [], []
        for _ in range(1000):
            call = server.broker.Acquire.future(request, timeout=20)
            call.add_done_callback(
                lambda _: ends.append(time.monotonic() - start))
            calls.append(call)
        served = [c for c in calls if c.code() == grpc.StatusCode.OK]
        refused = [c for c in calls if c.code() != grpc.StatusCode.OK]
        self.assertEqual(len(served), LIMIT)
        for call in refused:
            self.assert_code(call.exception(),
                             grpc.StatusCode.DEADLINE_EXCEEDED, "WAIT_TIMEOUT")
            waited = hotlined.error_details(call.exception())["WaitExplanation"]
            self.assertTrue(1 <= waited.place <= 1000, waited.place)
        wait.until(lambda: len(ends) == 1000, "all callbacks")
        # Sending them and hearing of them takes this client its time, too.
        self.assertLess(max(ends), 10)
        stats = server.stats()
        self.assertEqual(stats.totals.waiters, 0)
        self.assertEqual(stats.targets[0].leases, LIMIT)
        for call in served:
            self.release(server, call.result())
        server.check_nothing_held()
        server.check_descriptors(descriptors)

    def test_a_full_queue_refuses_at_once(self):
        _, server, target = self.start_both(
            {"pool": {"max_connections_per_target": 1,
                      "max_waiters_per_target": 2}})
        first = self.acquire(server, target, 10).result()
        waiting = [self.acquire(server, target, 20) for _ in range(2)]
        wait.until(lambda: server.stats().totals.waiters == 2, "two wait")
        with self.assertRaises(grpc.RpcError) as caught:
            self.acquire(server, target, 20).result()
        self.assert_code(caught.exception, grpc.StatusCode.RESOURCE_EXHAUSTED,
                         "QUEUE_FULL")
        self.assertIn("RetryInfo", hotlined.error_details(caught.exception))
        self.release(server, first)
        served = wait.until(
            lambda: [c for c in waiting if c.done()], "one is served")[0]
        waiting.remove(served)
        self.release(server, served.result())
        self.release(server, waiting[0].result())
        server.check_nothing_held()

    def test_waiters_are_served_in_order_of_arrival(self):
        _, server, target = self.start_both(self.CONFIG)
        calls = []
        for number in range(1000):
            calls.append(self.acquire(server, target, 120))
            # One after the other, so that the order is known.
            if number < LIMIT:
                calls[number].result()
            else:
                wait.until(lambda n=number: server.stats(
                    view=pb.STATS_VIEW_SUMMARY).totals.waiters
                           == n - LIMIT + 1, "%d wait" % (number - LIMIT + 1))
        for number in range(1000 - LIMIT):
            self.release(server, calls[number].result())
            # Exactly the next in line is served by it.
            following = calls[number + LIMIT]
            self.assertEqual(following.code(), grpc.StatusCode.OK)
            self.assertEqual(following.result().wait.place, number + 1)
            if number + LIMIT + 1 < len(calls):
                self.assertFalse(calls[number + LIMIT + 1].done())
        for call in calls[1000 - LIMIT:]:
            self.release(server, call.result())
        server.check_nothing_held()


if __name__ == "__main__":
    unittest.main()
