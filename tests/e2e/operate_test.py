"""The operators' commands over the control plane of a real hotlined."""

import json
import os
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import wait


class OperateTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()

    def run_hotline(self, *words, **kwargs):
        return self.hotline(self.server, *words, **kwargs)

    def get(self, timeout=20):
        return self.server.broker.Execute(
            pb.ExecuteRequest(url=self.target + "/"), timeout=timeout)

    def get_in_background(self):
        return self.server.broker.Execute.future(
            pb.ExecuteRequest(url=self.target + "/"), timeout=20)

    def row(self):
        return self.server.stats(target=self.target).targets[0]

    def load(self):
        """Calls in four threads; returns a function that ends them and returns
        how many succeeded, and the errors."""
        done = threading.Event()
        served, failed = [], []

        def call():
            while not done.is_set():
                try:
                    served.append(self.get().status)
                except grpc.RpcError as error:
                    failed.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()

        def end():
            done.set()
            for thread in threads:
                thread.join()
            return len(served), failed
        wait.until(lambda: len(served) > 20, "the load runs")
        return end

    def test_a_drained_target_refuses_until_it_is_undrained(self):
        self.get()
        lease = self.server.broker.Acquire(pb.AcquireRequest(
            target=self.target, lease_ttl=hotlined.seconds(60)),
            timeout=20).lease.lease_id
        out, _ = self.run_hotline("drain", self.target)
        self.assertEqual(out, self.target
                         + ": drained (it was open); 1 lease left\n")
        with self.assertRaises(grpc.RpcError) as caught:
            self.get()
        self.assert_code(caught.exception, grpc.StatusCode.UNAVAILABLE,
                         "DRAINING")
        # The lease stays usable.
        answer = self.server.broker.Execute(pb.ExecuteRequest(
            url=self.target + "/", lease_id=lease), timeout=20)
        self.assertEqual(answer.status, 200)
        self.server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                   timeout=20)
        wait.until(lambda: self.upstream.open_connections() == 0,
                   "its connections are closed")
        closed = [value for name, value in self.server.metrics().items()
                  if "connections_closed_total" in name
                  and 'reason="operator"' in name and self.target in name]
        self.assertEqual(closed, [1])
        self.run_hotline("undrain", self.target)
        self.assertEqual(self.get().status, 200)

    def test_a_paused_targets_callers_wait_and_none_fails(self):
        end = self.load()
        out, _ = self.run_hotline("pause", self.target)
        self.assertIn("paused (it was open)", out)
        wait.until(lambda: self.row().waiters == 4, "all callers wait", 20)
        self.assertIn("PAUSED", self.run_hotline("explain", self.target)[0])
        self.run_hotline("resume", self.target)
        wait.until(lambda: self.row().waiters == 0, "they are served", 20)
        _, failed = end()
        self.assertEqual(failed, [])

    def test_the_wait_for_a_paused_target_names_the_pause(self):
        self.run_hotline("pause", self.target)
        with self.assertRaises(grpc.RpcError) as caught:
            self.get(timeout=1)
        self.assert_code(caught.exception, grpc.StatusCode.DEADLINE_EXCEEDED,
                         "WAIT_TIMEOUT")
        details = hotlined.error_details(caught.exception)
        self.assertEqual(details["WaitExplanation"].limit, "paused")
        self.assertEqual(self.upstream.open_connections(), 0)

    def test_reconnects_under_load_replace_all_and_fail_no_call(self):
        end = self.load()
        for _ in range(5):
            before = {c.connection_id for c in self.server.stats(
                target=self.target,
                view=pb.STATS_VIEW_CONNECTIONS).connections}
            out, _ = self.run_hotline("reconnect", self.target)
            self.assertIn("being replaced", out)
            wait.until(lambda b=before: not b & {
                c.connection_id for c in self.server.stats(
                    target=self.target,
                    view=pb.STATS_VIEW_CONNECTIONS).connections},
                "all are replaced", 30)
        served, failed = end()
        self.assertEqual(failed, [])
        self.assertGreater(served, 20)

    def test_warm_dials_and_evict_closes(self):
        out, _ = self.run_hotline("warm", "-n", "2", self.target)
        self.assertEqual(out, self.target + ": ready\n")
        self.assertEqual(self.upstream.open_connections(), 2)
        connection = self.server.stats(
            target=self.target,
            view=pb.STATS_VIEW_CONNECTIONS).connections[0].connection_id
        self.run_hotline("evict", "--now", str(connection))
        wait.until(lambda: self.upstream.open_connections() == 1, "one closes")
        _, err = self.run_hotline("evict", str(connection), code=7)
        self.assertIn("CONNECTION_UNKNOWN", err)
        # The target's limit is 10.
        out, _ = self.run_hotline("warm", "-n", "11", "--wait", "1ms",
                                  self.target, code=1)
        self.assertRegex(out, ": [0-9]+ still missing")

    def test_the_log_level_returns_after_a_while(self):
        out, _ = self.run_hotline("log-level", "debug", "--for", "2s")
        self.assertEqual(out, "log level: debug (it was info)\n")
        wait.until(lambda: "the configured log level is back"
                   in self.server.log(), "it returns", 20)
        self.assertIn("method=SetLogLevel", self.server.log())
        self.assertIn("(it was info)",
                      self.run_hotline("log-level", "info")[0])

    def test_the_configuration_is_shown_reloaded_and_refused(self):
        out, _ = self.run_hotline("config", "show")
        self.assertIn(self.server.config_path, out.splitlines()[0])
        self.assertIn("max_connections_per_target: 10", out)
        self.server.config["pool"] = {"max_connections_per_target": 3}
        self.server.write_config()
        self.assertIn("reloaded\n", self.run_hotline("config", "reload")[0])
        self.assertIn("max_connections_per_target: 3",
                      self.run_hotline("config", "show")[0])
        self.server.config["pool"] = {"max_conections": 3}
        self.server.write_config()
        _, err = self.run_hotline("config", "reload", code=2)
        self.assertIn("CONFIG_REFUSED", err)
        self.assertIn("max_conections: unknown key", err)
        shown = json.loads(self.run_hotline("config", "show", "--output",
                                            "json")[0])
        self.assertIn("max_conections", shown["last_error"])
        self.assertIn("max_connections_per_target: 3", shown["effective_yaml"])

    def test_each_change_is_audited_and_reading_is_not(self):
        self.run_hotline("pause", self.target)
        self.run_hotline("explain", self.target)
        wait.until(lambda: "method=Pause" in self.server.log(), "it is logged")
        line, = [line for line in self.server.log().splitlines()
                 if "method=Pause" in line]
        self.assertIn("target=" + self.target, line)
        self.assertIn("peer=ipv4", line)
        self.assertIn("result=ok", line)
        self.assertNotIn("method=Explain", self.server.log())

    def test_wrong_usage_and_an_absent_broker_have_their_exit_codes(self):
        _, err = self.run_hotline("drain", "no target", code=2)
        self.assertIn("BAD_TARGET", err)
        self.run_hotline("reconnect", "https://unknown.test", code=7)
        self.run_hotline("--admin-address", "127.0.0.1:1", "--max-time", "2s",
                         "explain", self.target, code=3)


class PolicyTest(harness.EndToEnd):

    def test_a_users_rule_decides_over_a_unix_socket(self):
        socket = "unix://" + os.path.join(self.directory, "a.sock")
        me = "uid:%d" % os.getuid()
        server = self.start_hotlined({
            "listen": {"admin": socket},
            "policy": {"default": "allow", "rules": [
                {"identities": [me], "targets": ["https://mine.test"],
                 "rpcs": ["Admin"]}]}})
        self.hotline(server, "pause", "https://mine.test")
        _, err = self.hotline(server, "pause", "https://other.test", code=4)
        self.assertIn("NOT_AUTHORIZED", err)
        _, err = self.hotline(server, "config", "show", code=4)
        self.assertIn("NOT_AUTHORIZED", err)
        wait.until(lambda: "method=Pause" in server.log()
                   and "method=Admin" in server.log(), "both are logged")
        line, = [line for line in server.log().splitlines()
                 if "method=Pause" in line]
        self.assertIn("identity=" + me, line)
        self.assertEqual(
            server.metrics()['hotline_denials_total{method="Admin",'
                             'reason="not_authorized"}'], 2)

    def test_with_a_policy_loopback_callers_need_a_rule(self):
        server = self.start_hotlined({"policy": {"default": "allow", "rules": [
            {"identities": ["anonymous"], "rpcs": ["Stats"]}]}})
        _, err = self.hotline(server, "explain", "https://a.test", code=4)
        self.assertIn("NO_IDENTITY", err)


if __name__ == "__main__":
    unittest.main()
