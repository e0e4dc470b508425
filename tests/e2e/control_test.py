"""What operators take out of service and put back, the levels of the log, and
configurations that are checked and applied, over a real hotlined."""

import json
import os
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import wait


class ControlTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()

    def run_hotline(self, *words, **kwargs):
        return self.hotline(self.server, *words, **kwargs)

    def get(self):
        return self.server.broker.Execute(
            pb.ExecuteRequest(url=self.target + "/"), timeout=20)

    def assert_refused(self, reason):
        with self.assertRaises(grpc.RpcError) as caught:
            self.get()
        self.assert_code(caught.exception, grpc.StatusCode.UNAVAILABLE, reason)

    def write(self, text):
        path = os.path.join(self.directory, "new.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def running(self):
        """The file that the server was started with, as YAML (JSON)."""
        return json.loads(json.dumps(self.server.config))

    def shown(self):
        return self.run_hotline("config", "show")[0]

    # The broker, and addresses.

    def test_a_drained_broker_refuses_and_says_so_until_it_is_undrained(self):
        self.get()
        lease = self.server.broker.Acquire(pb.AcquireRequest(
            target=self.target, lease_ttl=hotlined.seconds(60)),
            timeout=20).lease.lease_id
        out, _ = self.run_hotline("drain", "--broker")
        self.assertEqual(out, "the broker: drained (it was open); "
                              "1 lease left\n")
        self.assert_refused("DRAINING")
        self.assertEqual(self.server.page("/readyz")[0], 503)
        self.assertEqual(self.server.page("/healthz")[0], 200)
        self.run_hotline("health", code=1)
        self.assertIn("# set by an operator: the broker is drained\n",
                      self.shown())
        answer = self.server.broker.Execute(pb.ExecuteRequest(
            url=self.target + "/", lease_id=lease), timeout=20)
        self.assertEqual(answer.status, 200)
        self.server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                   timeout=20)
        before = self.upstream.open_connections()
        out, _ = self.run_hotline("undrain", "--broker")
        self.assertEqual(out, "the broker: open (it was drained)\n")
        self.assertEqual(self.get().status, 200)
        self.assertEqual(self.upstream.open_connections(), before)
        self.assertEqual(self.server.page("/readyz")[0], 200)
        self.run_hotline("health")

    def test_a_drained_address_is_left_and_comes_back(self):
        self.get()
        places = ["--remote-ip", "127.0.0.1", self.target]
        out, _ = self.run_hotline("drain", *places)
        self.assertEqual(out, "127.0.0.1 of %s: drained; 1 connection left\n"
                         % self.target)
        wait.until(lambda: self.upstream.open_connections() == 0, "it is left")
        out, _ = self.run_hotline("explain", self.target)
        self.assertIn("127.0.0.1 is DENIED: drained by an operator", out)
        self.run_hotline("undrain", "--remote-ip", "127.0.0.1", code=7)
        out, _ = self.run_hotline("undrain", *places)
        self.assertEqual(out, "127.0.0.1 of %s: open\n" % self.target)
        self.assertEqual(self.get().status, 200)

    def test_a_blocked_address_is_cut_off_until_its_time_is_over(self):
        self.get()
        out, _ = self.run_hotline("block", "127.0.0.0/8")
        self.assertEqual(out, "127.0.0.0/8: blocked; 1 connection closed\n")
        wait.until(lambda: self.upstream.open_connections() == 0,
                   "it is cut off")
        # The name may have an IPv6 address, too, where nothing listens.
        with self.assertRaises(grpc.RpcError) as caught:
            self.get()
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertIn("127.0.0.0/8 is blocked for every target", self.shown())
        self.run_hotline("block", "127.0.0.0/8", "--for", "1s")
        wait.until(lambda: "is blocked" not in self.shown(), "it returns")
        self.assertEqual(self.get().status, 200)
        _, err = self.run_hotline("unblock", "127.0.0.0/8", code=7)
        self.assertIn("NOT_BLOCKED", err)
        line, = [line for line in self.server.log().splitlines()
                 if "method=BlockAddress" in line and " for " not in line]
        self.assertIn("127.0.0.0/8, 1 connection", line)

    def test_what_to_drain_must_be_clear(self):
        for words in (["drain"], ["drain", "--broker", self.target],
                      ["undrain", "--broker", "--remote-ip", "127.0.0.1"],
                      ["block"], ["block", "localhost"]):
            self.run_hotline(*words, code=2)

    # The log.

    def test_the_log_level_of_one_target_shows_its_calls_alone(self):
        out, _ = self.run_hotline("log-level", "debug", "--target",
                                  self.target)
        self.assertEqual(out, "log level of %s: debug (it was info)\n"
                         % self.target)
        other = self.target.replace("localhost", "127.0.0.1")
        # It may fail: then that is at this level, too.
        self.server.broker.Execute.future(
            pb.ExecuteRequest(url=other + "/"), timeout=20).exception()
        self.get()
        granted = "debug granted target=" + self.target
        wait.until(lambda: granted in self.server.log(), "its calls are shown")
        for line in self.server.log().splitlines():
            if " debug " in line:
                self.assertIn("target=" + self.target, line)
        self.assertIn("the log level of %s is debug" % self.target,
                      self.shown())
        self.run_hotline("log-level", "info", "--target", self.target,
                         "--for", "1s")
        wait.until(lambda: "log level" not in self.shown(), "it returns", 20)

    # The configuration.

    def test_a_file_is_checked_by_the_broker_that_would_use_it(self):
        path = self.write(json.dumps(self.running()))
        self.assertEqual(self.run_hotline("config", "check", path)[0],
                         path + ": valid\n")
        self.assertEqual(self.run_hotline("config", "diff", path)[0],
                         "no change\n")
        path = self.write("pool:\n  max_conections: 3\n"
                          "egress: {deny: ['10.1.2.3/8']}\n")
        _, err = self.run_hotline("config", "check", path, code=2)
        self.assertIn(path + ":2:3: pool.max_conections: unknown key", err)
        path = self.write("egress: {deny: ['10.1.2.3/8']}\n")
        out, _ = self.run_hotline("config", "check", path)
        self.assertIn("warning: %s:1:17: egress.deny[0]: 10.1.2.3/8 has bits"
                      % path, out)
        path = self.write("upstream: {ca_file: /nonexistent/ca.pem}\n")
        _, err = self.run_hotline("config", "check", path, code=2)
        self.assertIn("/nonexistent/ca.pem", err)
        self.run_hotline("config", "check", code=2)
        self.run_hotline("config", "check", "/nonexistent.yaml", code=2)
        self.assertNotIn("method=UpdateConfig", self.server.log())

    def test_a_dry_run_says_what_would_happen_and_changes_nothing(self):
        lease = self.server.broker.Acquire(pb.AcquireRequest(
            target=self.target, lease_ttl=hotlined.seconds(60)),
            timeout=20).lease.lease_id
        self.get()
        wait.until(lambda: self.upstream.open_connections() == 2, "both open")
        config = self.running()
        config["pool"] = {"max_connections_per_target": 1}
        path = self.write(json.dumps(config))
        words = ["config", "apply", "--dry-run", path]
        out, _ = self.run_hotline(*words)
        self.assertIn("pool.max_connections_per_target: 10 -> 1\n", out)
        self.assertIn("%s: max_connections 10 -> 1: 1 idle connection closed"
                      % self.target, out)
        self.assertTrue(out.endswith("nothing was changed\n"), out)
        numbers = json.loads(self.run_hotline(*words, "--output", "json")[0])
        consequence, = numbers["consequences"]
        self.assertEqual(consequence["closed"], 1)
        self.assertEqual(self.upstream.open_connections(), 2)
        # And so it is.
        out, _ = self.run_hotline("config", "apply", path)
        self.assertIn("applied\n", out)
        wait.until(lambda: self.upstream.open_connections() == 1, "one closes")
        self.server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                   timeout=20)

    def test_what_is_applied_holds_until_the_next_reload(self):
        config = self.running()
        config["pool"] = {"max_connections_per_target": 3}
        text = json.dumps(config)
        out, _ = self.run_hotline("config", "apply", "-", stdin=text.encode())
        self.assertIn("pool.max_connections_per_target: 10 -> 3\n", out)
        shown = self.shown()
        self.assertIn("max_connections_per_target: 3\n", shown)
        self.assertIn("applied by an operator", shown)
        wait.until(lambda: "method=UpdateConfig" in self.server.log(),
                   "it is audited")
        self.run_hotline("config", "reload")
        shown = self.shown()
        self.assertIn("max_connections_per_target: 10\n", shown)
        self.assertNotIn("applied by an operator", shown)
        _, err = self.run_hotline("config", "apply", "-", code=2,
                                  stdin=b"pool: {max_conections: 3}")
        self.assertIn("CONFIG_REFUSED", err)
        self.assertIn("max_connections_per_target: 10\n", self.shown())


if __name__ == "__main__":
    unittest.main()
