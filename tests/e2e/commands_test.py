"""Every command of `hotline` does over a real server what its help says.

The table has an entry for each command of `hotline help`, and for each action
of those that have several. Other tests go into each command's depth.
"""

import json
import os
import re
import signal
import socket
import subprocess
import unittest

from hotline.v1 import broker_pb2 as pb

import harness
import peers
import wait


class CommandsTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        upstream, self.server, _ = self.start_both()
        # By its only address, which can be blocked.
        self.target = "https://127.0.0.1:%d" % upstream.ports["good"]
        self.url = self.target + "/"

    def run_hotline(self, *words, **kwargs):
        return self.hotline(self.server, *words, **kwargs)[0]

    def subcommands(self):
        listed = self.run_hotline("help").split("\nSubcommands:\n")[1]
        return re.findall(r"^  ([a-z-]+)", listed.split("\n\n")[0], re.M)

    def test_every_command_has_its_entry_here(self):
        methods = {name for name in dir(self) if name.startswith("run_")}
        named = {"run_" + name.replace("-", "_") for name in
                 self.subcommands()}
        self.assertGreater(len(named), 25)
        self.assertEqual(methods - {"run_hotline"}, named)

    def test_every_command_works(self):
        for name in self.subcommands():
            with self.subTest(name):
                getattr(self, "run_" + name.replace("-", "_"))()
                # Each leaves the target as it was.
                self.assertEqual(self.run_hotline("get", self.url), "hello\n")
        self.server.check_nothing_held()

    def test_every_action_and_choice_of_a_command_is_accepted(self):
        """Those that the command names are those that it takes."""
        for command, actions in (("config", {"show", "reload", "check", "diff",
                                             "apply"}),
                                 ("lease", {"end"})):
            text = self.run_hotline("help", command)
            self.assertEqual(set(re.search(
                r"action :\{(.*?)\}", text).group(1).split(",")), actions)

    def acquire(self):
        return self.run_hotline("acquire", self.target).strip()

    def connection(self):
        """The id of an idle one."""
        self.run_hotline("get", self.url)
        return self.server.stats(
            target=self.target,
            view=pb.STATS_VIEW_CONNECTIONS).connections[0].connection_id

    # One for each command.

    def run_get(self):
        self.assertEqual(self.run_hotline("get", self.url), "hello\n")

    def run_acquire(self):
        lease = self.acquire()
        self.assertRegex(lease, r"^\S{20,}$")
        self.run_hotline("release", lease)

    def run_release(self):
        lease = self.acquire()
        self.run_hotline("release", lease)
        self.run_hotline("get", "--lease", lease, self.url, code=7)

    def run_renew(self):
        lease = self.acquire()
        self.run_hotline("renew", "--ttl", "1m", lease)
        held, = self.server.stats(view=pb.STATS_VIEW_LEASES).leases
        self.assertGreater(held.remaining.seconds, 30)
        self.run_hotline("release", lease)

    def run_exec(self):
        self.assertEqual(self.run_hotline(
            "exec", self.target, "--", "sh", "-c",
            'echo "$HOTLINE_URL"; exit 3', code=3), self.target + "\n")

    def echo(self):
        def script(connection):
            for data in iter(connection.read_some, b""):
                connection.send(data)
            connection.end()
        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        return "tcp://127.0.0.1:%d" % peer.port

    def run_tunnel(self):
        self.assertEqual(self.run_hotline("tunnel", self.echo(),
                                          stdin=b"to and fro"), "to and fro")

    def run_forward(self):
        with wait.start(["client/hotline", "forward", "0", self.echo()],
                        stdout=subprocess.PIPE, env=dict(
                            os.environ, HOTLINE_ADDRESS=self.server.address)
                        ) as command:
            line = command.stdout.readline().decode()
            port = int(re.match(r"forwarding 127\.0\.0\.1:(\d+)",
                                line).group(1))
            with socket.create_connection(("127.0.0.1", port), 20) as caller:
                caller.sendall(b"to and fro")
                self.assertEqual(caller.recv(100), b"to and fro")
            self.assertEqual(wait.end(command, signal.SIGINT), 0)

    def run_stats(self):
        self.assertIn(self.target, self.run_hotline("stats"))

    def run_top(self):
        # Cut off at the end, where that is all that fits.
        self.assertIn(self.target[:18], self.run_hotline("top", "-n", "1"))

    def run_health(self):
        self.assertEqual(self.run_hotline("health"), "SERVING\n")

    def run_explain(self):
        self.assertIn("nothing is wrong",
                      self.run_hotline("explain", self.target))

    def run_events(self):
        self.run_hotline("get", self.url)
        self.assertIn(self.target,
                      self.run_hotline("events", "--kind", "ready"))

    def run_drain(self):
        self.assertIn("drained", self.run_hotline("drain", self.target))
        self.run_hotline("get", self.url, code=4)
        self.run_hotline("undrain", self.target)

    def run_undrain(self):
        self.run_hotline("drain", self.target)
        self.assertIn("open (it was drained)",
                      self.run_hotline("undrain", self.target))

    def run_pause(self):
        self.assertIn("paused", self.run_hotline("pause", self.target))
        self.run_hotline("get", "--max-time", "1s", self.url, code=5)
        self.run_hotline("resume", self.target)

    def run_resume(self):
        self.run_hotline("pause", self.target)
        self.assertIn("open (it was paused)",
                      self.run_hotline("resume", self.target))

    def run_reconnect(self):
        before = self.connection()
        self.assertIn("being replaced",
                      self.run_hotline("reconnect", self.target))
        wait.until(lambda: self.connection() != before, "it is replaced", 30)

    def run_reset_breaker(self):
        self.assertIn(self.target,
                      self.run_hotline("reset-breaker", self.target))

    def run_warm(self):
        self.assertEqual(self.run_hotline("warm", "-n", "3", self.target),
                         self.target + ": ready\n")

    def run_evict(self):
        connection = self.connection()
        self.run_hotline("evict", str(connection))
        self.run_hotline("evict", str(connection), code=7)

    def run_lease(self):
        lease = self.acquire()
        held, = json.loads(self.run_hotline(
            "explain", "--output", "json", self.target))["holdings"]
        self.assertIn("ended", self.run_hotline("lease", "end",
                                                str(held["lease_number"])))
        self.run_hotline("get", "--lease", lease, self.url, code=7)

    def run_block(self):
        self.assertIn("blocked",
                      self.run_hotline("block", "127.0.0.0/8"))
        self.run_hotline("get", self.url, code=4)
        self.run_hotline("unblock", "127.0.0.0/8")

    def run_unblock(self):
        self.run_hotline("block", "127.0.0.1", "--target", self.target)
        self.run_hotline("unblock", "127.0.0.1", "--target", self.target)
        self.run_hotline("unblock", "127.0.0.1", "--target", self.target,
                         code=7)

    def run_log_level(self):
        self.assertEqual(self.run_hotline("log-level", "debug"),
                         "log level: debug (it was info)\n")
        self.run_hotline("log-level", "info")

    def run_config(self):
        path = self.server.config_path
        self.assertIn("max_connections_per_target: 10\n",
                      self.run_hotline("config", "show"))
        self.assertEqual(self.run_hotline("config", "check", path),
                         path + ": valid\n")
        self.assertEqual(self.run_hotline("config", "diff", path),
                         "no change\n")
        self.assertIn("nothing was changed\n", self.run_hotline(
            "config", "apply", "--dry-run", path))
        self.assertIn("applied\n", self.run_hotline("config", "apply", path))
        self.assertIn("reloaded\n", self.run_hotline("config", "reload"))

    def run_bench(self):
        out = self.run_hotline("bench", "execute", self.url, "-n", "20", "-c",
                               "2", "--output", "json")
        self.assertIn("20", out)

    def run_help(self):
        for name in self.subcommands():
            self.assertIn("Usage: hotline " + name,
                          self.run_hotline("help", name))

    def run_completion(self):
        for shell in ("bash", "zsh", "fish"):
            script = self.run_hotline("completion", shell)
            for name in self.subcommands():
                self.assertIn(name, script)

    def run_man(self):
        page = self.run_hotline("man").replace("\\-", "-")
        for name in self.subcommands():
            self.assertIn("fBhotline %s\\fR" % name, page)


if __name__ == "__main__":
    unittest.main()
