"""The hotline command line against the real hotlined."""

import json
import unittest

import harness


class CommandLineTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both(
            {"pool": {"max_connections_per_target": 1}})

    def run_hotline(self, *words, **kwargs):
        return self.hotline(self.server, *words, **kwargs)

    def test_get_prints_the_body_and_the_receipt(self):
        out, err = self.run_hotline("get", self.target + "/")
        self.assertEqual((out, err), ("hello\n", ""))
        out, err = self.run_hotline("get", "--receipt", self.target + "/")
        self.assertEqual(out, "hello\n")
        self.assertIn("reused, 1 call before", err)
        self.assertIn("TLSv1.3", err)
        self.assertIn("first byte", err)
        self.assertIn("attempts   1", err)

    def test_get_has_the_manners_of_curl(self):
        out, _ = self.run_hotline("get", "-d", "@-", "-H", "X-Id: 7",
                                  self.target + "/echo", stdin=b"a=1")
        self.assertEqual(out, "POST 7\n")
        out, _ = self.run_hotline("get", "-i", self.target + "/404")
        self.assertTrue(out.startswith("HTTP/1.1 404\r\n"), out)
        self.assertIn("content-length: 14\r\n", out)
        self.assertTrue(out.endswith("\r\n\r\nno such thing\n"), out)
        self.run_hotline("get", "--fail", self.target + "/500", code=8)

    def test_a_lease_goes_through_the_shell(self):
        lease = self.run_hotline("acquire", self.target, "--client-id", "shell",
                                 "--purpose", "test")[0].strip()
        for _ in range(3):
            self.run_hotline("get", "--lease", lease, self.target + "/")
        table, _ = self.run_hotline("stats", "--view", "leases")
        self.assertIn("shell", table)
        self.assertNotIn(lease, table)
        self.run_hotline("renew", lease, "--ttl", "1m")
        _, err = self.run_hotline("acquire", self.target, "--no-wait", code=4)
        self.assertIn("hotline: NO_IDLE_CONNECTION: ", err)
        _, err = self.run_hotline("acquire", self.target, "--max-wait", "1s",
                                  code=5)
        self.assertIn("hotline: WAIT_TIMEOUT: ", err)
        self.assertIn("held by shell (test)", err)
        self.run_hotline("release", lease)
        _, err = self.run_hotline("release", "-", stdin=lease.encode())
        self.assertIn("had ended before", err)
        self.run_hotline("get", "--lease", lease, self.target + "/", code=7)
        self.server.check_nothing_held()
        requests = self.upstream.requests("good")
        self.assertEqual([r.nth for r in requests], ["1", "2", "3"])

    def test_stats_are_a_table_or_json(self):
        self.run_hotline("get", self.target + "/")
        table, _ = self.run_hotline("stats")
        self.assertIn(self.target, table)
        stats = json.loads(self.run_hotline("stats", "--output", "json")[0])
        self.assertEqual(stats["targets"][0]["target"], self.target)
        self.assertEqual(stats["totals"]["connections"]["idle"], 1)
        self.assertEqual(stats["totals"]["counters"]["executes"], 1)
        connections = json.loads(self.run_hotline(
            "stats", "--view", "connections", "--output", "json")[0])
        self.assertEqual(connections["connections"][0]["state"], "READY")

    def test_health_and_errors_have_their_exit_codes(self):
        self.assertEqual(self.run_hotline("health")[0], "SERVING\n")
        self.run_hotline("health", "--service", "hotline.v1.Broker")
        self.run_hotline("health", "--service", "nobody", code=1)
        self.run_hotline("get", "ftp://localhost/", code=2)
        self.run_hotline("get", "--address", "127.0.0.1:1", "http://x/", code=3)
        self.run_hotline("get", "http://169.254.169.254/", code=4)
        self.run_hotline("get", "http://127.0.0.1:1/", code=6)
        self.run_hotline("get", "--max-time", "1", self.target + "/slow",
                         code=5)

    def test_the_socket_is_an_address_too(self):
        out, _ = self.run_hotline("get", "--address",
                                  "unix://" + self.server.socket,
                                  self.target + "/")
        self.assertEqual(out, "hello\n")


if __name__ == "__main__":
    unittest.main()
