"""Runs the README's examples unchanged except for addresses."""

import os
import shutil
import ssl
import subprocess
import sys
import unittest

import harness
import peers
from readme import example


class ReadmeTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()

    def here(self, text):
        """`text` with the addresses of this test's servers."""
        self.assertIn("127.0.0.1:50051", text)
        self.assertIn("https://api.example.com", text)
        return (text.replace("127.0.0.1:50051", self.server.address)
                .replace("https://api.example.com", self.target))

    def run_command(self, command, **environment):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, **environment), timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout.decode())
        self.server.check_nothing_held()
        return done.stdout.decode()

    def test_shell(self):
        script = "cd %s; echo '{}' >order.json\n%s" % (
            self.directory, self.here(example("shell")))
        out = self.run_command(
            ["bash", "-euo", "pipefail", "-c", script],
            PATH=os.path.abspath("client") + ":" + os.environ["PATH"],
            HOTLINE_ADMIN_ADDRESS=self.server.admin)
        self.assertTrue(out.startswith("hello\nhello\nhello\nbroker "), out)
        sent = self.upstream.requests("good")
        self.assertEqual([(r.method, r.uri) for r in sent],
                         [("GET", "/things"), ("POST", "/orders"),
                          ("GET", "/things.tar"), ("PUT", "/copy.tar")])

    def start_peer(self, script, context=None):
        peer = peers.Peer(script, context)
        self.addCleanup(peer.stop)
        return peer

    def test_tunnel(self):
        def say(text):
            def script(connection):
                connection.read_all()
                connection.send(text)
                connection.end()
            return script

        def websocket(connection):
            headers = connection.read_request().headers
            self.assertEqual(headers["sec-websocket-version"], "13")
            self.assertEqual(len(headers["sec-websocket-key"]), 24)
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\n"
                            b"Upgrade: websocket\r\n"
                            b"Connection: Upgrade\r\n\r\n")
            say(b"websocket\n")(connection)

        certificate = self.authority.issue("mail")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        script = example("tunnel")
        for shown, peer, scheme in (
                ("tcp://redis.example.com:6379",
                 self.start_peer(say(b"tcp\n")), "tcp"),
                ("tls://mail.example.com:993",
                 self.start_peer(say(b"tls\n"), context), "tls"),
                ("https://api.example.com",
                 self.start_peer(websocket), "http")):
            self.assertEqual(script.count(shown), 1)
            script = script.replace(
                shown, scheme + peer.target[peer.target.index(":"):])
        out = self.run_command(
            ["bash", "-euo", "pipefail", "-c", script],
            PATH=os.path.abspath("client") + ":" + os.environ["PATH"],
            HOTLINE_ADDRESS=self.server.address)
        self.assertEqual(out, "tcp\ntls\nwebsocket\n")

    def test_scrape(self):
        shutil.copytree("deploy/prometheus",
                        os.path.join(self.directory, "deploy/prometheus"))
        block = example("scrape")
        self.assertEqual(block.count("127.0.0.1:9464"), 2)
        out = self.run_command(
            ["bash", "-euo", "pipefail", "-c", "cd %s\n%s" % (
                self.directory,
                block.replace("127.0.0.1:9464", self.server.http))])
        self.assertIn("1 rule files found", out)
        self.assertNotIn("FAILED", out)

    def test_python(self):
        # With stubs generated as the README says, not with the tests' own.
        block = example("stubs")
        for shown, path in (("-Iproto ", "-I%s " % os.path.abspath("proto")),
                            ("node_modules/google-proto-files",
                             os.path.abspath("../google_rpc"))):
            self.assertEqual(block.count(shown), 1)
            block = block.replace(shown, path)
        self.run_command(["bash", "-euo", "pipefail", "-c",
                          "cd %s\n%s" % (self.directory, block)])
        script = self.here(example("python"))

        def run(script):
            return self.run_command([sys.executable, "-c", script],
                                    PYTHONPATH=self.directory)

        self.assertEqual(run(script), "200 b'hello\\n' False\n")
        self.assertEqual(run(script.replace("https:", "gopher:")),
                         "INVALID_ARGUMENT BAD_URL\n")

    def test_cpp(self):
        # Built from the README, with addresses from the environment.
        out = self.run_command(["tests/e2e/readme_example"],
                               HOTLINE_ADDRESS=self.server.address,
                               TARGET=self.target)
        self.assertEqual(out, "200 hello\n")
        self.assertEqual(self.server.stats().totals.counters.acquires, 1)


if __name__ == "__main__":
    unittest.main()
