"""Operators' changes while 5 000 calls a second are due: none fails, and nothing
is left behind. The rate that was reached is printed."""

import json
import os
import signal
import subprocess
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import callers
import harness
import hotlined
import wait

RATE = 5000  # Calls a second, as far as the machine can.


class ChangeTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both(
            {"pool": {"idle_timeout": "1s"}})
        self.server.stats()  # So that our own connection is there already.
        self.descriptors = self.server.descriptors()

    def run_hotline(self, *words, code=0):
        return self.hotline(self.server, *words, code=code)

    def row(self):
        rows = self.server.stats(target=self.target).targets
        return rows[0] if rows else None

    def served(self):
        return self.server.stats().totals.counters.executes

    def await_calls(self, calls=200):
        """Until so many more have ended."""
        before = self.served()
        wait.until(lambda: self.served() >= before + calls, "calls", 60)

    def under_load(self, change):
        """Runs it under load, and checks what has become of the calls."""
        load = wait.start(
            ["client/hotline", "bench", "execute", self.target + "/", "--rate",
             str(RATE), "--over", "unary", "--connections", "4",
             "--concurrency", "64", "--duration", "10m", "--output", "json"],
            stdout=subprocess.PIPE,
            env=dict(os.environ, HOTLINE_ADDRESS=self.server.address))
        try:
            self.await_calls()
            change()
            self.await_calls()
        finally:
            load.send_signal(signal.SIGINT)
            out, _ = load.communicate(timeout=60)
        found = json.loads(out)
        print("%s: %.0f calls/s" % (self.id(), found["rate"]))
        self.assertEqual((found["failed"], found["errors"]), (0, {}))
        self.assertGreater(found["ok"], 400)
        self.check_nothing_left()

    def check_nothing_left(self):
        self.server.check_nothing_held()
        self.assertEqual(self.server.stats().totals.counters.leases_reclaimed,
                         0)
        wait.until(lambda: self.upstream.open_connections() == 0,
                   "no connection is left upstream", 30)
        self.server.check_descriptors(self.descriptors)

    def test_a_hundred_reloads_good_and_bad(self):
        good, bad = self.server.config, dict(
            self.server.config, pool={"max_connections": -1})

        def reload():
            for number in range(50):
                # More connections than before, or fewer.
                good["pool"]["max_connections_per_target"] = 2 + number % 8
                for config, code in ((good, 0), (bad, 2)):
                    self.server.config = config
                    self.server.write_config()
                    self.run_hotline("config", "reload", code=code)
                self.assertEqual(self.row().max_connections, 2 + number % 8)
        self.under_load(reload)

    def test_twenty_reconnects(self):
        def reconnect():
            for _ in range(20):
                before = self.connections()
                self.run_hotline("reconnect", self.target)
                wait.until(lambda b=before: not b & self.connections(),
                           "all are replaced", 60)
        self.under_load(reconnect)

    def connections(self):
        return {each.connection_id for each in self.server.stats(
            target=self.target, view=pb.STATS_VIEW_CONNECTIONS).connections}

    def test_twenty_pauses(self):
        def pause():
            for _ in range(20):
                self.run_hotline("pause", self.target)
                wait.until(lambda: self.row().waiters > 0
                           and self.row().leases == 0, "all wait", 30)
                self.run_hotline("resume", self.target)
                self.await_calls()
        self.under_load(pause)

    def test_twenty_drains_refuse_calls_and_break_none(self):
        refused, undrained = [], threading.Event()

        def work(_):
            """A call that is repeated once its target is back."""
            while True:
                try:
                    return self.server.broker.Execute(
                        pb.ExecuteRequest(url=self.target + "/"), timeout=60)
                except grpc.RpcError as error:
                    if hotlined.reason(error) != "DRAINING":
                        raise
                    refused.append(error)
                    undrained.wait(60)
        load = callers.Load(8, work)
        self.addCleanup(load.stop)
        for _ in range(20):
            self.await_calls(50)
            before = len(refused)
            undrained.clear()
            self.run_hotline("drain", self.target)
            wait.until(lambda b=before: len(refused) > b
                       and self.upstream.open_connections() == 0,
                       "it is drained", 30)
            self.run_hotline("undrain", self.target)
            undrained.set()
        self.await_calls(50)
        outcomes = load.stop()
        failed = [callers.describe(each) for each in outcomes.values()
                  if isinstance(each, grpc.RpcError)]
        self.assertEqual(failed, [])
        # Each call reached the upstream once.
        wait.until(lambda: len(self.upstream.requests("good"))
                   >= len(outcomes), "nginx has logged them", 30)
        self.assertEqual(len(self.upstream.requests("good")), len(outcomes))
        self.check_nothing_left()


if __name__ == "__main__":
    unittest.main()
