"""Connections that the upstream closes just as they are reused."""

import collections
import threading
import unittest

import grpc

import callers
import harness
import hotlined
import peers

TOTAL = 10000

# What an ambiguous end may say of how far the request got.
_AMBIGUOUS = {"PARTIAL", "SENT_UNKNOWN", "RESPONSE_STARTED"}


class Reloading:
    """Has nginx reloaded again and again, and counts."""

    def __init__(self, upstream, seconds=0.3):
        self.count = 0
        self._upstream = upstream
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(self._seconds):
            self._upstream.reload()
            self.count += 1

    def stop(self):
        self._stop.set()
        self._thread.join()


class ReuseTest(harness.EndToEnd):

    def execute(self, server, url, method, total, concurrency=48):
        """`total` calls at once and one after the other; all of them ended."""
        return callers.run(concurrency, total, lambda number:
                         server.broker.Execute.future(
                             callers.request(url, number, method), timeout=30))

    def check_gets(self, calls):
        failed = collections.Counter(
            callers.describe(c) for c in calls if c.code() != grpc.StatusCode.OK)
        self.assertEqual(failed, {}, "no GET may fail")

    def check_posts(self, calls, seen):
        """`seen`: the numbers of the POSTs that arrived, each time they did."""
        times = collections.Counter(seen)
        twice = {number: n for number, n in times.items() if n > 1}
        self.assertEqual(twice, {}, "sent twice")
        ambiguous = 0
        for number, call in enumerate(calls):
            if call.code() == grpc.StatusCode.OK:
                self.assertEqual(times[number], 1, "answered, yet never seen")
                continue
            ambiguous += 1
            code, reason, verdict = callers.describe(call)
            self.assertEqual((code, reason), ("ABORTED", "UPSTREAM_RESET"),
                             call.details())
            self.assertIn(verdict, _AMBIGUOUS)
            info = hotlined.error_details(call)["ErrorInfo"]
            self.assertGreater(int(info.metadata["bytes_written"]), 0)
        return ambiguous

    def tell(self, what, calls, server, ambiguous=0):
        retried = sum(len(c.result().receipt.failed_attempts) for c in calls
                      if c.code() == grpc.StatusCode.OK)
        stale = sum(value for name, value in server.metrics().items()
                    if name.startswith("hotline_stale_reuse_total"))
        print("%s: %d calls, %d attempts made again, %d ambiguous, %d found "
              "their connection dead" % (what, len(calls), retried, ambiguous,
                                         stale))


class NginxTest(ReuseTest):
    """nginx reloaded all the time, and its keep-alive as short as can be."""

    # Of requests, so that it ends connections in full use; of time, so that
    # it ends those that rest, at a moment when they may be used again.
    EXTRA = "keepalive_requests 97; keepalive_timeout 40ms;"

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both(
            {"pool": {"max_connections_per_target": 24,
                      "idle_timeout": "1s"}}, extra=self.EXTRA)
        self.server.stats()
        self.descriptors = self.server.descriptors()

    def run_reloaded(self, method):
        reloading = Reloading(self.upstream)
        try:
            # Waves: connections rest between them for about as long as nginx
            # keeps them.
            calls = []
            while len(calls) < TOTAL:
                size = min(500, TOTAL - len(calls))
                first = len(calls)
                calls += callers.run(48, size, lambda n, first=first:
                                   self.server.broker.Execute.future(
                                       callers.request(self.target + "/echo",
                                                     first + n, method),
                                       timeout=30))
                threading.Event().wait(0.03 + 0.02 * (first // 500 % 2))
        finally:
            reloading.stop()
        self.assertGreater(reloading.count, 3)
        return calls

    def check_nothing_left(self):
        self.server.check_nothing_held()
        self.server.check_descriptors(self.descriptors)

    def test_10000_gets_and_none_fails(self):
        calls = self.run_reloaded("GET")
        self.check_gets(calls)
        # Each answer is its own caller's.
        for number, call in enumerate(calls):
            self.assertEqual(call.result().body, b"GET %d\n" % number)
        self.tell("reloaded, GET", calls, self.server)
        self.check_nothing_left()

    def test_10000_posts_and_none_is_sent_twice(self):
        calls = self.run_reloaded("POST")
        ambiguous = self.check_posts(
            calls, [int(r.id) for r in self.upstream.requests("good")])
        self.tell("reloaded, POST", calls, self.server, ambiguous)
        self.check_nothing_left()


class CutTest(ReuseTest):
    """A peer that closes exactly when another request has arrived."""

    def cut_peer(self, every):
        """Closes on every `every`-th request of a connection, unanswered."""
        seen = []

        def script(connection):
            count = 0
            while True:
                request = connection.read_request()
                if request is None:
                    return
                seen.append(int(request.headers["x-id"]))
                count += 1
                if count == every:
                    if connection.index % 2:
                        connection.reset()
                    return
                connection.send(peers.ok(b"%d\n" % seen[-1]
                                         if request.method == "POST" else
                                         request.headers["x-id"].encode()))
        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        return peer, seen

    def start(self, **execute):
        return self.start_hotlined(
            {"pool": {"max_connections_per_target": 16}, "execute": execute})

    def test_gets_are_retried_within_the_budget(self):
        peer, seen = self.cut_peer(every=10)
        server = self.start()
        calls = self.execute(server, peer.target + "/", "GET", 3000)
        self.check_gets(calls)
        for number, call in enumerate(calls):
            self.assertEqual(call.result().body, b"%d" % number)
        again = len(seen) - 3000
        self.assertGreater(again, 200, "the cuts were not met")
        self.assertEqual(again, sum(
            len(c.result().receipt.failed_attempts) for c in calls))
        self.tell("cut, GET", calls, server)
        server.check_nothing_held()

    def test_the_budget_bounds_retries(self):
        # Every second request is cut: repeating each would be half as many
        # again and more. What is over the budget says so.
        peer, seen = self.cut_peer(every=2)
        server = self.start(retry_budget_percent=10)
        calls = self.execute(server, peer.target + "/", "GET", 2000)
        failed = [c for c in calls if c.code() != grpc.StatusCode.OK]
        for call in failed:
            code, reason, verdict = callers.describe(call)
            self.assertEqual((code, reason, verdict),
                             ("ABORTED", "UPSTREAM_RESET", "SENT_UNKNOWN"))
        self.assertGreater(len(failed), 0)
        # Ten in a hundred, and three for each ten seconds.
        self.assertLessEqual(len(seen), 2000 * 1.1 + 30)
        server.check_nothing_held()

    def test_posts_are_sent_once_and_each_cut_is_reported(self):
        peer, seen = self.cut_peer(every=10)
        server = self.start()
        calls = self.execute(server, peer.target + "/", "POST", 3000)
        ambiguous = self.check_posts(calls, seen)
        # Each call that was cut off was told, and no other.
        self.assertEqual(len(seen), 3000)
        self.assertGreater(ambiguous, 200)
        for number, call in enumerate(calls):
            if call.code() == grpc.StatusCode.OK:
                self.assertEqual(call.result().body, b"%d\n" % number)
        self.tell("cut, POST", calls, server, ambiguous)
        server.check_nothing_held()


if __name__ == "__main__":
    unittest.main()
