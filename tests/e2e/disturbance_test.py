"""Upstream, broker and configuration change while calls run."""

import collections
import signal
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import crowd
import harness
import hotlined
import wait


class Again:
    """Does something over and over in a thread of its own."""

    def __init__(self, action, pause):
        self.times = 0
        self._action = action
        self._pause = pause
        self._stop = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            while not self._stop.wait(self._pause):
                self._action()
                self.times += 1
        except Exception as failure:  # pylint: disable=broad-except
            self._failure = failure

    def stop(self):
        """Ends the thread, and raises what it ended with."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


class DisturbanceTest(harness.EndToEnd):

    def execute(self, server, target, method="GET"):
        """Starts call `number`, known to nginx by it."""
        def start(number):
            return server.broker.Execute.future(
                pb.ExecuteRequest(
                    url=target + "/", method=method,
                    headers=[pb.Header(name="X-Id", value=b"%d" % number)]),
                timeout=30)
        return start

    def times_served(self, upstream):
        return collections.Counter(
            int(r.id) for r in upstream.requests("good"))

    def test_10000_gets_survive_reloads_of_the_upstream(self):
        upstream, server, target = self.start_both()
        reloads = Again(upstream.reload, 0.2)
        try:
            calls = crowd.Crowd(32, 10000, self.execute(server, target))
        finally:
            reloads.stop()
        self.assertEqual([e.details() for e in calls.errors], [])
        self.assertTrue(all(a.status == 200 for a in calls.answers))
        self.assertGreater(reloads.times, 3)
        self.assertEqual(len(self.times_served(upstream)), 10000)
        self.assertGreater(server.stats().totals.counters.opened, 10,
                           "the reloads cost connections")
        server.check_nothing_held()

    def test_10000_posts_are_sent_once_each_over_reloads_of_the_upstream(self):
        upstream, server, target = self.start_both()
        reloads = Again(upstream.reload, 0.2)
        try:
            calls = crowd.Crowd(32, 10000,
                                self.execute(server, target, "POST"))
        finally:
            reloads.stop()
        for error in calls.errors:
            self.assert_code(error.exception(), grpc.StatusCode.ABORTED,
                             "UPSTREAM_RESET")
            info = hotlined.error_details(error.exception())["ErrorInfo"]
            self.assertIn(info.metadata["verdict"],
                          ("PARTIAL", "SENT_UNKNOWN", "RESPONSE_STARTED"))
        served = self.times_served(upstream)
        self.assertEqual([i for i, times in served.items() if times > 1], [])
        self.assertGreaterEqual(len(served), len(calls.answers))
        self.assertGreater(reloads.times, 3)
        server.check_nothing_held()
        print("10000 POSTs, %d reloads, %d aborted"
              % (reloads.times, len(calls.errors)))

    def test_20_sigterms_under_load_lose_nothing_that_was_accepted(self):
        upstream = self.start_nginx()
        target = "https://localhost:%d" % upstream.ports["good"]
        first = 0
        for _ in range(20):
            server = self.start_hotlined()
            start = self.execute(server, target)
            ended = threading.Event()

            def terminate():
                wait.until(lambda: server.stats(
                    view=pb.STATS_VIEW_SUMMARY).totals.counters.executes > 200,
                           "calls run", 30)
                server.process.send_signal(signal.SIGTERM)

            thread = threading.Thread(target=terminate)
            thread.start()
            calls = crowd.Crowd(
                32, 2000, lambda number, base=first: start(base + number),
                until=ended)
            thread.join()
            self.assertEqual(server.stop(), 0, server.log())
            self.assertGreater(len(calls.answers), 200)
            self.assertGreater(len(calls.errors), 0)
            answered = set(calls.numbers_answered)
            for error in calls.errors:
                # CANCELLED comes from the gRPC library alone, for calls that
                # arrive while it shuts its server down.
                self.assertIn(
                    (error.code(), hotlined.reason(error)),
                    ((grpc.StatusCode.UNAVAILABLE, "DRAINING"),
                     (grpc.StatusCode.UNAVAILABLE, ""),
                     (grpc.StatusCode.CANCELLED, "")), error.details())
            served = {i - first for i in self.times_served(upstream)
                      if i >= first}
            # What reached the upstream was answered to its caller.
            self.assertEqual(served - answered, set())
            first += 2000

    def test_100_reloads_of_good_and_bad_files_disturb_no_call(self):
        upstream, server, target = self.start_both()
        reloads = [0]

        def logged():
            # "configuration reloaded", "configuration refused".
            return server.log().count("configuration re")

        def reload():
            number = reloads[0]
            before = logged()
            good = number % 3 != 2
            server.config["pool"] = {
                "max_connections_per_target": 5 + number % 6}
            server.config.pop("nonsense", None)
            if not good:
                server.config["nonsense"] = 1
            server.write_config()
            server.process.send_signal(signal.SIGHUP)
            wait.until(lambda: logged() > before and server.metrics()[
                "hotline_config_last_reload_successful"] == good,
                       "reload %d" % number)
            reloads[0] += 1

        done = threading.Event()

        def hundred():
            try:
                while reloads[0] < 100:
                    reload()
            finally:
                done.set()

        thread = threading.Thread(target=hundred)
        thread.start()
        calls = crowd.Crowd(16, 1000000, self.execute(server, target),
                            until=done)
        thread.join()
        self.assertEqual(reloads[0], 100)
        self.assertEqual([e.details() for e in calls.errors], [])
        self.assertGreater(len(calls.answers), 100)
        # Number 99 was good: 5 + 99 % 6.
        wait.until(lambda: server.stats().targets[0].max_connections == 8,
                   "the last good file is in force")
        server.check_nothing_held()
        wait.until(lambda: upstream.open_connections() <= 8,
                   "lowered caps close what is too much")


if __name__ == "__main__":
    unittest.main()
