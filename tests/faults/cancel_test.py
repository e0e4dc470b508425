"""Acquires that are cancelled at any moment leave no lease behind."""

import random
import time
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import peers

RACES = 1000


class CancelTest(harness.EndToEnd):
    """The pool is small: a lease that stays behind is missed soon."""

    def test_a_cancelled_acquire_is_released_by_its_request_id(self):
        def script(connection):
            while connection.read_request():
                connection.send(peers.ok(b"x"))

        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 4}})
        chance = random.Random(1)
        took = cancelled = 0
        for number in range(RACES):
            name = {"target": peer.target, "request_id": str(number)}
            call = server.broker.Acquire.future(
                pb.AcquireRequest(holder=pb.Holder(client_id="me"), **name),
                timeout=20)
            # Not a wait: the moment of the cancellation is what varies.
            end = time.monotonic() + chance.random() * 0.003
            while time.monotonic() < end and not call.done():
                pass
            call.cancel()
            try:
                call.result()
                took += 1
            except grpc.FutureCancelledError:
                cancelled += 1
            # A client that has cancelled cannot know whether it was granted.
            server.broker.Release(
                pb.ReleaseRequest(client_id="me", **name), timeout=20)
        print(took, "granted,", cancelled, "cancelled")
        self.assertGreater(cancelled, 0)
        server.check_nothing_held()


if __name__ == "__main__":
    unittest.main()
