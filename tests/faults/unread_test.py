"""Answers that their caller does not read: memory is bounded, others served.

A caller that opened no window for its answers, or stopped reading a Session,
made the broker keep all of them: 300 calls of 3 MB took 1.7 GiB, a Session
message with 1 000 of them 3 GiB, and what an ended Session had not written
stayed for ever. Afterwards other callers were refused for want of memory. Now
an answer is read from its upstream only as far as there is memory for it.
"""

import os
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import harness
import hotlined
import http2
import wait

_MIB = 1 << 20
_SERVICE = b"/hotline.v1.Broker/"
_BIG = 3_000_000


def resident(server):
    """(now, at most) in bytes."""
    with open("/proc/%d/status" % server.process.pid,
              encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return tuple(int(lines[key].split()[0]) << 10
                 for key in ("VmRSS", "VmHWM"))


class Unread(harness.EndToEnd):

    def start(self, http2_upstream, memory=128 * _MIB):
        path = os.path.join(self.directory, "files")
        os.mkdir(path)
        for name, size in (("big", _BIG), ("middle", 60_000), ("small", 100)):
            with open(os.path.join(path, name), "wb") as out:
                out.write(b"x" * size)
        upstream = self.start_nginx(
            {name: self.authority.issue(name) for name in ("good", "other")},
            "location /files/ { root %s; }" % self.directory, http2_upstream)
        server = self.start_hotlined(
            {"overload": {"max_memory_bytes": memory},
             "pool": {"max_connections_per_target": 20}})
        target = "https://localhost:%d" % upstream.ports["good"]
        # A stream that is not read holds its connection: to HTTP/1.1 upstreams
        # others want another target then.
        self.other = "https://localhost:%d" % upstream.ports["other"]
        # Makes a connection, and whatever a first call makes.
        self.innocent(server, target, 1)
        return server, target

    def innocent(self, server, target, calls):
        """Another caller, on a connection of its own; all are served."""
        with grpc.insecure_channel(server.address, options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", 8 << 20)]) as channel:
            stub = broker_pb2_grpc.BrokerStub(channel)
            for number in range(calls):
                name, size = (("small", 100), ("big", _BIG))[number % 10 == 9]
                answer = stub.Execute(pb.ExecuteRequest(
                    url="%s/files/%s" % (target, name)), timeout=30)
                self.assertEqual((answer.status, len(answer.body)), (200, size))

    def attack(self, server, innocents, rpc, message, count, end=True):
        """Makes calls whose answers are not read, with an innocent caller
        meanwhile and afterwards. Prints and returns the peak memory."""
        before = resident(server)[0]
        connection = http2.connect(server.address, window=0)
        with connection:
            connection.setblocking(True)
            sender = threading.Thread(target=http2.send, args=(
                connection, http2.calls(count, _SERVICE + rpc, message, end)))
            sender.start()
            self.innocent(server, innocents, 100)
            sender.join()
            self.innocent(server, innocents, 20)
            wait.until(lambda: server.metrics()["hotline_answer_bytes"] > 0,
                       "answers are unread")
        most = resident(server)[1]
        print("%s x %d: %d MiB before, %d MiB at most" % (
            rpc.decode(), count, before // _MIB, most // _MIB))
        self.assertIsNone(server.process.poll(), "it was killed")
        wait.until(lambda: server.metrics()["hotline_answer_bytes"] == 0,
                   "all of it is given up", 30)
        wait.until(lambda: resident(server)[0] < before + 28 * _MIB,
                   "it goes back to the system", 30)
        self.innocent(server, innocents, 100)
        server.check_nothing_held(30)
        return most


class UnreadTest(Unread):

    def check_unary(self, http2_upstream, name, count):
        server, target = self.start(http2_upstream)
        message = pb.ExecuteRequest(
            url="%s/files/%s" % (target, name)).SerializeToString()
        most = self.attack(server, target, b"Execute", message, count)
        # It was 1.7 GiB.
        self.assertLess(most, 170 * _MIB)

    def test_large_answers_over_http1(self):
        self.check_unary(False, "big", 300)

    def test_large_answers_over_http2(self):
        self.check_unary(True, "big", 300)

    def test_many_small_answers(self):
        self.check_unary(False, "middle", 900)

    def check_streams(self, http2_upstream):
        server, target = self.start(http2_upstream)
        message = pb.ExecuteStreamRequest(head=pb.ExecuteStreamHead(
            url=target + "/files/big", content_length=0)).SerializeToString()
        most = self.attack(server, target if http2_upstream else self.other,
                           b"ExecuteStream", message, 300, end=False)
        self.assertLess(most, 170 * _MIB)

    def test_streams_over_http1(self):
        self.check_streams(False)

    def test_streams_over_http2(self):
        self.check_streams(True)

    def test_a_session_message_with_1000_executes(self):
        server, target = self.start(False)
        message = pb.SessionRequest(items=[
            pb.SessionItem(id=number + 1, execute=pb.ExecuteRequest(
                url=target + "/files/big"))
            for number in range(1000)]).SerializeToString()
        most = self.attack(server, target, b"Session", message, 1, end=False)
        # It was 3 GiB.
        self.assertLess(most, 300 * _MIB)


class EndedSessionTest(Unread):
    """100 Executes of 3 MB in one Session that ends before they are read: 285
    MiB stayed, each time."""

    def check(self, end):
        server, target = self.start(False, memory=1024 * _MIB)
        before = resident(server)[0]
        for _ in range(3):
            with grpc.insecure_channel(server.address, options=[
                    ("grpc.use_local_subchannel_pool", 1),
                    ("grpc.http2.lookahead_bytes", 16384)]) as channel:
                stub = broker_pb2_grpc.BrokerStub(channel)
                done = threading.Event()

                def requests():
                    yield pb.SessionRequest(items=[
                        pb.SessionItem(id=number + 1, execute=pb.ExecuteRequest(
                            url=target + "/files/big"))
                        for number in range(100)])
                    done.wait(60)

                call = stub.Session(requests(), timeout=3)
                wait.until(
                    lambda: server.metrics()["hotline_answer_bytes"] > _BIG,
                    "answers are unread", 30)
                end(call, channel)
                done.set()
            wait.until(lambda: server.metrics()["hotline_answer_bytes"] == 0,
                       "all of it is given up", 30)
        wait.until(lambda: resident(server)[0] < before + 28 * _MIB,
                   "it goes back to the system", 30)
        print("after three: %d MiB more than before" % (
            (resident(server)[0] - before) // _MIB))
        server.check_nothing_held(30)

    def test_cancelled(self):
        self.check(lambda call, channel: call.cancel())

    def test_its_caller_is_gone(self):
        self.check(lambda call, channel: channel.close())

    def test_its_deadline_passes(self):
        self.check(lambda call, channel: wait.until(
            lambda: call.code() == grpc.StatusCode.DEADLINE_EXCEEDED,
            "its deadline passes", 30))


if __name__ == "__main__":
    unittest.main()
