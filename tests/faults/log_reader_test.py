"""A log reader that stops reading: nothing blocks on it."""

import fcntl
import json
import os
import time
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import wait

F_SETPIPE_SZ = 1031  # Of the fcntl module since Python 3.10.

# A target that is no text, as no conforming caller can write it.
MALFORMED = b"\x0a\x04\xff\xfe\xfd\xfc"
# Never resolved: a call that takes only idle connections dials none.
LONG_TARGET = "http://" + ".".join(["a" * 60] * 4)


class LogReaderTest(harness.EndToEnd):

    def start_with_reader(self, level, form="json"):
        """hotlined, and the end of a pipe that it logs to. The pipe is full."""
        path = os.path.join(self.directory, "log.fifo")
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, writer)
        fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
        while True:
            try:
                os.write(writer, b"-" * 4095 + b"\n")
            except BlockingIOError:
                break
        # Opened anew: O_NONBLOCK belongs to what was opened above.
        server = self.start_hotlined(
            {"log": {"level": level, "format": form}},
            before='exec 2>"%s"' % path)
        return server, reader

    def read_until(self, reader, part, seconds=30):
        """All that comes until a line has `part`, as lines."""
        text = bytearray()

        def found():
            try:
                text.extend(os.read(reader, 1 << 20))
            except BlockingIOError:
                pass
            return part in text and text.endswith(b"\n")

        wait.until(found, part.decode(), seconds)
        return [line for line in text.decode().splitlines()
                if line.strip("-")]

    def burst(self, method, request, count):
        """The status codes of that many calls, a hundred at a time."""
        codes = []
        for _ in range(0, count, 100):
            calls = [method.future(request, timeout=60) for _ in range(100)]
            codes += [call.code() for call in calls]
        return codes

    def check_serving(self, server):
        self.assertEqual(server.page("/healthz")[0], 200)
        self.assertEqual(server.page("/readyz")[0], 200)
        server.broker.Stats(pb.StatsRequest(), timeout=30)

    def test_malformed_requests_and_a_full_pipe_stop_no_call(self):
        server, reader = self.start_with_reader("info")
        acquire = server.channel.unary_unary("/hotline.v1.Broker/Acquire")
        execute = server.channel.unary_unary("/hotline.v1.Broker/Execute")
        for method in (acquire, execute):
            codes = self.burst(method, MALFORMED, 1500)
            self.assertEqual(len(set(codes)), 1, set(codes))
            self.assertNotIn(codes[0], (grpc.StatusCode.DEADLINE_EXCEEDED,
                                        grpc.StatusCode.UNAVAILABLE))
        self.check_serving(server)
        lines = self.read_until(reader, b"protobuf")
        # Each is a line of the log's own, and they are few.
        libraries = [json.loads(line) for line in lines if "library" in line]
        self.assertLess(len(libraries), 200)
        self.assertIn("UTF-8", libraries[0]["text"])

    def test_what_does_not_fit_is_dropped_counted_and_reported(self):
        server, reader = self.start_with_reader("debug")
        request = pb.AcquireRequest(target=LONG_TARGET,
                                    reuse=pb.REUSE_REQUIRE_WARM)
        dropped = 0
        for _ in range(20):
            codes = self.burst(server.broker.Acquire, request, 1000)
            self.assertEqual(set(codes), {grpc.StatusCode.RESOURCE_EXHAUSTED})
            dropped = server.metrics()["hotline_log_lines_dropped_total"]
            if dropped:
                break
        self.assertGreater(dropped, 0)
        self.check_serving(server)

        lines = self.read_until(reader, b"dropped")
        reported = sum(json.loads(line)["count"] for line in lines
                       if "dropped" in line)
        refused = sum("refused" in line for line in lines)
        self.assertGreaterEqual(reported, dropped)
        self.assertGreater(refused, 1000)
        times = [json.loads(line)["time"] for line in lines
                 if "refused" in line]
        # Threads take the time before they take their place in the queue.
        moved = sum(a > b for a, b in zip(times, times[1:]))
        self.assertLess(moved, len(times) / 10)

    def test_an_end_does_not_wait_for_the_reader(self):
        server, _ = self.start_with_reader("info", "text")
        start = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - start, 20)

    def test_denials_and_a_full_pipe_stop_no_call(self):
        server, reader = self.start_with_reader("info")
        server.config["policy"] = {"default": "deny", "rules": []}
        server.write_config()
        request = pb.AcquireRequest(target="http://127.0.0.1:1")

        def denied():
            try:
                server.broker.Acquire(request, timeout=30)
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.UNAUTHENTICATED
            return False

        wait.until(denied, "the policy holds", 30)
        codes = self.burst(server.broker.Acquire, request, 2000)
        self.assertEqual(set(codes), {grpc.StatusCode.UNAUTHENTICATED})
        self.assertEqual(server.page("/healthz")[0], 200)
        self.read_until(reader, b'"denied"')


if __name__ == "__main__":
    unittest.main()
