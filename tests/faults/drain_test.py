"""SIGTERM while clients of three languages call: no call is lost."""

import base64
import collections
import signal
import subprocess
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import callers
import harness
import peers
import wait

ROUNDS = 20
CALLS = 20000  # More than a client makes before the signal.
CLIENTS = {"node": ["node", "tests/faults/clients/execute_loop.mjs"],
           "ruby": ["ruby", "tests/faults/clients/execute_loop.rb"]}
OK, UNAVAILABLE = 0, grpc.StatusCode.UNAVAILABLE.value[0]


class Client:
    """A program that calls; its calls have numbers from `first` on."""

    def __init__(self, command, address, url, first):
        self.outcomes = {}
        self._process = wait.start(
            command + [address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        lines = "".join(
            "%d %s\n" % (number, base64.b64encode(callers.request(
                url, number, "POST").SerializeToString()).decode())
            for number in range(first, first + CALLS))
        self._thread = threading.Thread(target=self._talk, args=[lines])
        self._thread.start()

    def _talk(self, lines):
        writer = threading.Thread(target=self._write, args=[lines])
        writer.start()
        for line in self._process.stdout:
            number, code, answer = line.rstrip("\n").split(" ")
            self.outcomes[int(number)] = (int(code), base64.b64decode(answer))
        writer.join()
        self._process.stdout.close()

    def _write(self, lines):
        with self._process.stdin as stdin:
            stdin.write(lines)

    def join(self):
        self._thread.join()
        return self._process.wait(30)


class DrainTest(harness.EndToEnd):
    """Each call either was answered, or never reached the upstream."""

    def setUp(self):
        super().setUp()
        self.seen = collections.Counter()
        self.peer = peers.Peer(self.script)
        self.addCleanup(self.peer.stop)

    def script(self, connection):
        while request := connection.read_request():
            number = int(request.headers["x-id"])
            self.seen[number] += 1
            if not connection.send(peers.ok(b"%d" % number)):
                return

    def check(self, outcomes):
        tally = collections.Counter(code for code, _ in outcomes.values())
        self.assertEqual(set(tally), {OK, UNAVAILABLE})
        for number, (code, answer) in outcomes.items():
            if code == OK:
                self.assertEqual(pb.ExecuteResponse.FromString(answer).body,
                                 b"%d" % number)
            self.assertEqual(self.seen[number], 1 if code == OK else 0, number)
        return tally

    def drain(self):
        self.seen.clear()
        server = self.start_hotlined({"shutdown_grace": "20s"})
        url = self.peer.target + "/"
        clients = {
            name: Client(command, server.address, url, 1000000 * (i + 1))
            for i, (name, command) in enumerate(CLIENTS.items())}
        load = callers.Load(4, lambda number: server.broker.Execute(
            callers.request(url, number, "POST"), timeout=30))
        wait.until(lambda: load.done() > 50 and all(
            len(client.outcomes) > 50 for client in clients.values()),
                   "all three call", 60)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(30), 0, server.log())
        results = {name: (client.join(), client.outcomes)
                   for name, client in clients.items()}
        outcomes = {
            number: (outcome.code().value[0], b"")
            if isinstance(outcome, grpc.RpcError)
            else (OK, outcome.SerializeToString())
            for number, outcome in load.stop().items()}
        server.stop()
        tallies = {"python": self.check(outcomes)}
        for name, (code, outcomes) in results.items():
            self.assertEqual(code, 0, name)
            tallies[name] = self.check(outcomes)
        return tallies

    def test_no_call_is_lost(self):
        for _ in range(ROUNDS):
            tallies = self.drain()
        print("the last round:", {k: dict(v) for k, v in tallies.items()})


if __name__ == "__main__":
    unittest.main()
