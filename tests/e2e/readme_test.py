"""The README's examples, run as they stand but for addresses."""

import os
import shutil
import subprocess
import sys
import unittest

import harness
from readme import example


class ReadmeTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()

    def here(self, text):
        """With the addresses of this test's servers."""
        self.assertIn("127.0.0.1:50051", text)
        self.assertIn("https://api.example.com", text)
        return (text.replace("127.0.0.1:50051", self.server.address)
                .replace("https://api.example.com", self.target))

    def run_command(self, command, **environment):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=dict(os.environ, **environment), timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout.decode())
        self.server.check_nothing_held()
        return done.stdout.decode()

    def test_shell(self):
        script = "cd %s; echo '{}' >order.json\n%s" % (
            self.directory, self.here(example("shell")))
        out = self.run_command(
            ["bash", "-euo", "pipefail", "-c", script],
            PATH=os.path.abspath("client") + ":" + os.environ["PATH"])
        self.assertTrue(out.startswith("hello\nhello\nhello\nbroker "), out)
        sent = self.upstream.requests("good")
        self.assertEqual([(r.method, r.uri) for r in sent],
                         [("GET", "/things"), ("POST", "/orders"),
                          ("GET", "/things.tar"), ("PUT", "/copy.tar")])

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
        out = self.run_command(
            [sys.executable, "-c", self.here(example("python"))])
        self.assertEqual(out, "200 b'hello\\n' False\n")

    def test_cpp(self):
        # Built from the README; its addresses come from the environment.
        out = self.run_command(["tests/e2e/readme_example"],
                               HOTLINE_ADDRESS=self.server.address,
                               TARGET=self.target)
        self.assertEqual(out, "200 hello\n")
        self.assertEqual(self.server.stats().totals.counters.acquires, 1)


if __name__ == "__main__":
    unittest.main()
