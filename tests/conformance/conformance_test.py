"""Runs a language's client against the front: conformance_test.py CLIENT.

A client runs all cases over one connection, over each transport, and prints a
line for each. Here it is checked that every case ran and passed, and that the
server is left without a call.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import grpc

import certs
import conformance_pb2 as pb
import conformance_pb2_grpc
import wait

HERE = "tests/conformance"
PYTHON = ["/usr/bin/python3", "-W", "error::ResourceWarning"]
CASES = {
    "empty_unary", "large_unary", "many_calls", "client_stream",
    "server_stream", "ping_pong", "duplex", "empty_stream",
    "cancel_after_begin", "cancel_after_first_answer", "deadline",
    "status_codes", "status_text", "status_before_half_close",
    "status_details", "unknown_method", "unknown_service", "metadata", "gzip",
    "deflate", "oversized_message", "oversized_metadata",
}


class Client:
    """A program, the cases and transports that it has, and how many of its
    calls the server counts as cancelled."""

    def __init__(self, *command, cannot=(), transports=("tcp", "unix", "tls"),
                 cancelled=(2, 3)):
        self.command = command
        self.cases = CASES - set(cannot)
        self.transports = transports
        # Both cancel_*, and the deadline unless the server's timer is first.
        self.cancelled = cancelled


CLIENTS = {
    "cc": Client(HERE + "/cc_client"),
    # Its library has no deflate.
    "go": Client(HERE + "/go_client", cannot=["deflate"]),
    # The same. Debian has no native library for its Unix sockets.
    "java": Client("java", "-XX:-UsePerfData", "-XX:+UseSerialGC",
                   "-Djava.library.path=" + HERE + "/java", "-jar",
                   HERE + "/java/client.jar",
                   cannot=["deflate"], transports=["tcp", "tls"]),
    # It ends its side of a stream before it resets it: the server may see a
    # complete request.
    "node": Client("node", HERE + "/clients/node_client.mjs",
                   cancelled=(0, 1, 2, 3)),
    "python_aio": Client(*PYTHON, HERE + "/clients/python_aio.py"),
    "python_sync": Client(*PYTHON, HERE + "/clients/python_sync.py"),
    "ruby": Client("ruby", "-w", "-I" + HERE + "/gen/ruby",
                   HERE + "/clients/ruby_client.rb"),
}
CLIENT = CLIENTS[sys.argv[1]]


class ConformanceTest(unittest.TestCase):

    def setUp(self):
        # Short: a Unix socket's path has 108 bytes at most.
        self.directory = tempfile.mkdtemp(prefix="hl", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        authority = certs.Authority(self.directory)
        certificate = authority.issue("server")
        self.socket = os.path.join(self.directory, "s")
        # pylint: disable=consider-using-with
        self.server = wait.start(
            [HERE + "/conformance_server", self.socket, certificate.cert,
             certificate.key, authority.cert],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.stop_server)
        loopback, unix, reachable = [self.server.stdout.readline().strip()
                                     for _ in range(3)]
        caller = authority.issue("caller")
        self.arguments = {
            "tcp": [loopback],
            "unix": [unix],
            "tls": ["127.0.0.1:" + reachable.rsplit(":", 1)[1],
                    authority.cert, caller.cert, caller.key],
        }
        channel = grpc.insecure_channel(loopback)
        self.addCleanup(channel.close)
        self.stub = conformance_pb2_grpc.ConformanceStub(channel)

    def stop_server(self):
        self.server.stdin.close()
        code = self.server.wait(30)
        self.server.stdout.close()
        self.assertEqual(code, 0)

    def run_client(self, transport):
        """Its exit code, and case -> (passed, output's line)."""
        done = subprocess.run(
            [*CLIENT.command, transport, *self.arguments[transport]],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=240,
            env=dict(os.environ, HOME=self.directory), check=False, text=True)
        outcome = {}
        for line in done.stdout.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("pass", "fail"):
                outcome[rest.partition(":")[0]] = word == "pass", line
        return done.returncode, outcome

    def check(self, transport):
        code, outcome = self.run_client(transport)
        for case, (passed, line) in sorted(outcome.items()):
            with self.subTest(case):
                self.assertTrue(passed, line)
        self.assertEqual(set(outcome), CLIENT.cases)
        self.assertEqual(code, 0)
        counts = wait.until(self.counts_when_idle, "no call runs")
        self.assertIn(counts.cancelled, CLIENT.cancelled)

    def counts_when_idle(self):
        counts = self.stub.Count(pb.Empty(), timeout=20)
        return None if counts.running else counts


for name in CLIENT.transports:
    setattr(ConformanceTest, "test_every_case_passes_over_" + name,
            lambda self, transport=name: self.check(transport))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
