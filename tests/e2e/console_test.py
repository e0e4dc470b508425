"""Commands that run for a while, and wrong input, against a real hotlined."""

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import unittest

from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import peers
import wait


def echo(connection):
    """Sends back what comes, until the other side ends."""
    for data in iter(connection.read_some, b""):
        connection.send(data)
    connection.end()


class Background:
    """A command that goes on running; its output is read by lines."""

    def __init__(self, server, *words):
        # pylint: disable=consider-using-with
        self.process = wait.start(
            ("client/hotline",) + words, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=dict(os.environ, HOTLINE_ADDRESS=server.address))

    def line(self):
        return self.process.stdout.readline().decode()

    def end(self, sig=signal.SIGINT):
        """(exit code, the rest of its output, its errors)."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode(), err.decode()

    def abandon(self):
        # Not by SIGKILL: exec passes the signal on to its command, which has
        # the other ends of the pipes, too.
        self.end(signal.SIGTERM)


class ConsoleTest(harness.EndToEnd):

    def background(self, server, *words):
        command = Background(server, *words)
        self.addCleanup(command.abandon)
        return command

    def peer(self, script):
        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        return peer


class ShowTest(ConsoleTest):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()

    def run_hotline(self, *words, **kwargs):
        return self.hotline(self.server, *words, **kwargs)

    def test_an_unknown_target_is_an_error_and_a_known_one_is_shown(self):
        _, err = self.run_hotline("stats", "--target", "https://unknown.test",
                                  code=7)
        self.assertIn("TARGET_UNKNOWN", err)
        self.run_hotline("get", self.target + "/")
        out, _ = self.run_hotline("stats", "--target", self.target, "--sort",
                                  "waiters", "--watch", "-n", "2",
                                  "--interval", "100ms")
        self.assertEqual(out.count("broker  "), 2)
        self.assertIn(self.target, out)

    def test_a_drained_target_is_not_a_failed_upstream(self):
        self.run_hotline("drain", self.target)
        _, err = self.run_hotline("get", self.target + "/", code=4)
        self.assertIn("hotline: DRAINING: ", err)
        self.run_hotline("undrain", self.target)
        self.run_hotline("get", self.target + "/")

    def test_an_error_names_the_field_and_the_header(self):
        _, err = self.run_hotline("acquire", "--source-ip", "me", self.target,
                                  code=2)
        self.assertIn("BAD_OPTION: options.source_ip: ", err)
        _, err = self.run_hotline("get", "-H", "A: b", "-H", "Host: x",
                                  self.target + "/", code=2)
        self.assertRegex(err, r"BAD_HEADER: headers\[1\]\S* \(Host\): ")

    def test_text_of_callers_is_never_sent_to_a_terminal(self):
        nasty = "me\x1b[2J\x1b]0;owned\x07"
        lease = self.server.broker.Acquire(pb.AcquireRequest(
            target=self.target, lease_ttl=hotlined.seconds(60),
            holder=pb.Holder(client_id=nasty, purpose=nasty)),
            timeout=20).lease.lease_id
        for words in (("stats", "--view", "leases"), ("top", "-n", "1"),
                      ("stats", "--view", "leases", "--output", "json"),
                      ("explain", self.target),
                      ("explain", "--output", "json", self.target)):
            out, _ = self.run_hotline(*words)
            self.assertNotIn("\x1b", out)
            self.assertNotIn("\x07", out)
        self.assertIn("me\\u001b[2J",
                      self.run_hotline("stats", "--view", "leases")[0])
        self.run_hotline("release", lease)

    def test_get_shows_what_it_did_for_several_urls(self):
        out, err = self.run_hotline(
            "get", "-v", "-w", "%{status} %{reused}\\n", self.target + "/",
            self.target + "/404")
        self.assertEqual(out, "hello\n200 false\nno such thing\n404 true\n")
        self.assertIn("> GET %s/404\n> \n< 404\n" % self.target, err)
        self.assertIn("< content-length: 14\n", err)
        self.assertIn("* attempts   1\n", err)

    def test_numbers_are_numbers_in_json(self):
        self.run_hotline("get", self.target + "/")
        stats = json.loads(self.run_hotline(
            "stats", "--view", "connections", "--output", "json")[0])
        self.assertIsInstance(stats["connections"][0]["connection_id"], int)
        self.assertEqual(stats["totals"]["counters"]["executes"], 1)

    def test_top_obeys_keys_and_restores_the_terminal(self):
        self.run_hotline("get", self.target + "/")
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100,
                                                           0, 0))
        before = termios.tcgetattr(slave)
        process = wait.start(
            ("client/hotline", "top", "--interval", "100ms"), stdin=slave,
            stdout=slave, stderr=slave,
            env=dict(os.environ, HOTLINE_ADDRESS=self.server.address))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        screen = bytearray()

        def shows(text):
            screen.extend(os.read(master, 65536))
            return text in screen
        wait.until(lambda: shows(b"by problems"), "the keys are shown", 20)
        self.assertIn(self.target.encode(), screen)
        os.write(master, b"w")
        wait.until(lambda: shows(b"by waiters"), "the order changed", 20)
        os.write(master, b"q")
        wait.until(lambda: shows(b"\x1b[?1049l"), "the screen is back", 20)
        self.assertEqual(process.wait(20), 0)
        self.assertEqual(termios.tcgetattr(slave), before)
        os.close(slave)


class PolicyTest(ConsoleTest):

    def test_get_works_where_the_policy_allows_execute_alone(self):
        upstream = self.start_nginx()
        target = "https://localhost:%d" % upstream.ports["good"]
        server = self.start_hotlined({"policy": {"default": "deny", "rules": [
            {"identities": ["anonymous"], "targets": [target],
             "rpcs": ["Execute"]}]}})
        self.assertEqual(self.hotline(server, "get", target + "/")[0],
                         "hello\n")
        _, err = self.hotline(server, "acquire", target, code=4)
        self.assertRegex(err, "NO_IDENTITY|NOT_AUTHORIZED")


class ExecTest(ConsoleTest):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()

    def leases(self):
        return self.server.stats(view=pb.STATS_VIEW_LEASES).leases

    def test_the_command_uses_the_lease_which_ends_with_it(self):
        out, _ = self.hotline(
            self.server, "exec", "--purpose", "nightly", self.target, "--",
            "sh", "-c", 'client/hotline get --lease "$HOTLINE_LEASE" '
            '"$HOTLINE_URL/" && client/hotline stats --view leases; exit 9',
            code=9)
        self.assertTrue(out.startswith("hello\n"), out)
        self.assertIn("nightly", out)
        self.server.check_nothing_held()

    def test_signals_are_passed_on_and_the_lease_is_released(self):
        command = self.background(
            self.server, "exec", self.target, "--", "sh", "-c",
            "trap 'echo caught; exit 5' TERM; echo ready; "
            "while :; do sleep 0.1; done")
        self.assertEqual(command.line(), "ready\n")
        self.assertEqual(len(self.leases()), 1)
        self.assertEqual(command.end(signal.SIGTERM), (5, "caught\n", ""))
        self.server.check_nothing_held()

    def test_a_lease_that_an_operator_ends_is_reported(self):
        done = os.path.join(self.directory, "done")
        command = self.background(
            self.server, "exec", "--ttl", "9s", self.target, "--", "sh", "-c",
            "echo ready; until [ -e %s ]; do sleep 0.05; done" % done)
        self.assertEqual(command.line(), "ready\n")
        explained = json.loads(self.hotline(
            self.server, "explain", "--output", "json", self.target)[0])
        self.hotline(self.server, "lease", "end",
                     str(explained["holdings"][0]["lease_number"]))
        self.assertIn(b"the lease has ended before the command: LEASE_",
                      command.process.stderr.readline())
        with open(done, "wb"):
            pass
        self.assertEqual(command.process.wait(30), 0)


class ForwardTest(ConsoleTest):

    def setUp(self):
        super().setUp()
        self.server = self.start_hotlined()
        self.echo = self.peer(echo)
        self.target = "tcp://127.0.0.1:%d" % self.echo.port

    def forward(self, local):
        command = self.background(self.server, "forward", local, self.target)
        line = command.line()
        self.assertTrue(line.startswith("forwarding "), line)
        return command, line.split()[1]

    def check_echo(self, connection, size):
        data = os.urandom(size)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        self.assertEqual(b"".join(iter(lambda: connection.recv(65536), b"")),
                         data)

    def test_each_connection_to_a_port_is_a_tunnel(self):
        command, address = self.forward("0")
        host, port = address.rsplit(":", 1)
        self.assertEqual(host, "127.0.0.1")
        with socket.create_connection((host, int(port)), 20) as first, \
                socket.create_connection((host, int(port)), 20) as second:
            self.check_echo(second, 100)
            self.check_echo(first, 1 << 20)
        self.server.check_nothing_held()
        self.assertEqual(command.end(), (0, "", ""))

    def test_a_socket_is_for_its_user_alone_and_is_removed(self):
        path = os.path.join(self.directory, "f.sock")
        command, address = self.forward("unix://" + path)
        self.assertEqual(address, "unix://" + path)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(path)
            self.check_echo(connection, 100)
        _, err = self.hotline(self.server, "forward", "unix://" + path,
                              self.target, code=1)
        self.assertIn("in use", err)
        self.assertEqual(command.end(signal.SIGTERM), (0, "", ""))
        self.assertFalse(os.path.exists(path))

    def test_the_end_closes_open_connections_and_their_tunnels(self):
        command, address = self.forward("127.0.0.1:0")
        port = int(address.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"x")
            self.assertEqual(connection.recv(10), b"x")
            self.assertEqual(command.end(), (0, "", ""))
            self.assertEqual(connection.recv(10), b"")
        self.server.check_nothing_held()

    def test_a_tunnel_that_fails_resets_its_connection_alone(self):
        closed = wait.free_port()
        command = self.background(self.server, "forward", "0",
                                  "tcp://127.0.0.1:%d" % closed)
        port = int(command.line().split()[1].rsplit(":", 1)[1])
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port),
                                          20) as connection:
                with self.assertRaises(ConnectionResetError):
                    connection.recv(10)
        code, _, err = command.end()
        self.assertEqual(code, 0)
        self.assertEqual(err.count("CONNECT_FAILED"), 2, err)

    def test_wrong_addresses_are_refused(self):
        for local, target in (("0.0.0.0:0", self.target),
                              ("nonsense", self.target),
                              ("0", "https://a.test")):
            self.hotline(self.server, "forward", local, target, code=2)


if __name__ == "__main__":
    unittest.main()
