"""Callers that are too many, silent or not allowed."""

import os
import select
import socket
import subprocess
import sys
import time
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import harness
import wait


def connect(address, count):
    """Connections to "127.0.0.1:port", as they come about."""
    host, port = address.rsplit(":", 1)
    return [socket.create_connection((host, int(port)), timeout=20)
            for _ in range(count)]


def closed_by_peer(connections, seconds):
    """How many of them have ended after `seconds` at most."""
    for connection in connections:
        connection.setblocking(False)
    poll = select.poll()
    open_ones = {c.fileno(): c for c in connections}
    for number in open_ones:
        poll.register(number, select.POLLIN)
    end = time.monotonic() + seconds
    while open_ones and time.monotonic() < end:
        for number, _ in poll.poll(100):
            try:
                ended = open_ones[number].recv(4096) == b""
            except OSError:
                ended = True
            if ended:
                poll.unregister(number)
                del open_ones[number]
    return len(connections) - len(open_ones)


def serves(server):
    """Whether a new connection is let in and a call on it answered."""
    with grpc.insecure_channel(
            server.address,
            options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            broker_pb2_grpc.BrokerStub(channel).Stats(pb.StatsRequest(),
                                                      timeout=1)
            return True
        except grpc.RpcError:
            return False


class CrowdTest(harness.EndToEnd):

    def out_of_descriptors(self, listen, reason):
        server = self.start_hotlined(
            {"listen": {"handshake_timeout": "60s", **listen}},
            before="ulimit -n 64")
        connections = connect(server.address, 200)
        try:
            # Only accepted callers are left open.
            refused = closed_by_peer(connections, 3)
            self.assertGreater(refused, 140)
            self.assertLessEqual(server.descriptors(), 64)
        finally:
            for connection in connections:
                connection.close()
        gone = time.monotonic()
        # Only then is a new caller sure not to be refused, and counted.
        wait.until(lambda: server.metrics()["hotline_listen_connections"] == 0,
                   "all are gone", 20)
        self.assertTrue(serves(server))
        self.assertLess(time.monotonic() - gone, 3)
        counts = server.metrics()
        self.assertEqual(counts['hotline_listen_refused_total{reason="%s"}'
                                % reason], refused)
        wait.until(lambda: server.metrics()["hotline_listen_connections"] == 0,
                   "all are gone")
        self.assertEqual(server.stop(), 0)

    def test_200_callers_and_64_descriptors(self):
        self.out_of_descriptors({"max_connections": 1000}, "descriptors")

    def test_200_callers_and_what_64_descriptors_leave(self):
        self.out_of_descriptors({}, "connections")

    def test_1000_silent_connections_end_at_the_handshake_timeout(self):
        server = self.start_hotlined({"listen": {"handshake_timeout": "2s"}})
        before = server.descriptors()
        connections = connect(server.address, 1000)
        begun = time.monotonic()
        try:
            self.assertTrue(serves(server))
            self.assertEqual(closed_by_peer(connections, 1), 0)
            self.assertEqual(closed_by_peer(connections, 20), 1000)
            self.assertLess(time.monotonic() - begun, 15)
        finally:
            for connection in connections:
                connection.close()
        self.assertTrue(serves(server))
        server.check_descriptors(before + 2)

    def test_one_peer_has_no_more_than_its_share(self):
        server = self.start_hotlined(
            {"listen": {"max_connections_per_peer": 3}})
        connections = connect(server.address, 5)
        self.assertEqual(closed_by_peer(connections, 2), 2)
        for connection in connections:
            connection.close()
        wait.until(lambda: serves(server), "there is room again")


class SocketTest(harness.EndToEnd):

    def over_socket(self, server):
        with grpc.insecure_channel(
                "unix://" + server.socket,
                options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            return broker_pb2_grpc.BrokerStub(channel).Stats(
                pb.StatsRequest(), timeout=5)

    def test_a_user_that_is_not_allowed_is_refused(self):
        server = self.start_hotlined(
            {"listen": {"allowed_uids": [os.getuid() + 1]}})
        with self.assertRaises(grpc.RpcError) as caught:
            self.over_socket(server)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertGreater(server.metrics()[
            'hotline_listen_refused_total{reason="credentials"}'], 0)
        # The other listeners are none of that.
        self.assertTrue(serves(server))

    def test_by_uid_or_by_group(self):
        for allowed in ({"allowed_uids": [os.getuid()]},
                        {"allowed_uids": [os.getuid() + 1],
                         "allowed_gids": [os.getgid()]}):
            server = self.start_hotlined({"listen": allowed})
            self.over_socket(server)
            server.stop()

    @unittest.skipIf(os.getuid() != 0, "needs a second user")
    def test_two_users_are_two_identities(self):
        server = self.start_hotlined()
        os.chmod(self.directory, 0o755)
        os.chmod(server.directory, 0o755)
        os.chmod(server.socket, 0o666)
        upstream = self.start_nginx({"plain": None})
        target = "http://127.0.0.1:%d" % upstream.ports["plain"]
        with grpc.insecure_channel("unix://" + server.socket) as channel:
            lease = broker_pb2_grpc.BrokerStub(channel).Acquire(
                pb.AcquireRequest(target=target), timeout=20).lease.lease_id
        script = (
            "import os, sys, grpc\n"
            "from hotline.v1 import broker_pb2 as pb, broker_pb2_grpc\n"
            "import hotlined\n"
            "os.setuid(65534)\n"
            "stub = broker_pb2_grpc.BrokerStub(grpc.insecure_channel("
            "'unix://' + sys.argv[1]))\n"
            "view = pb.StatsRequest(view=pb.STATS_VIEW_LEASES)\n"
            "print(len(stub.Stats(view, timeout=10).leases))\n"
            "try:\n"
            "    stub.Release(pb.ReleaseRequest(lease_id=sys.argv[2]),"
            " timeout=10)\n"
            "except grpc.RpcError as error:\n"
            "    print(hotlined.reason(error))\n")
        done = subprocess.run(
            [sys.executable, "-c", script, server.socket, lease],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
            check=False)
        self.assertEqual(done.stdout.decode().split(),
                         ["0", "LEASE_NOT_YOURS"], done.stderr.decode())


if __name__ == "__main__":
    unittest.main()
