"""Idle connections are retired before their upstream closes them.

With HOTLINE_CALLS=20000 the second test makes that many calls, in about ten
minutes; run that by hand.
"""

import os
import random
import threading
import unittest

from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import peers
import wait


class SaidTest(harness.EndToEnd):

    def test_a_keep_alive_header_is_obeyed(self):
        answer = (b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=100\r\n"
                  b"Content-Length: 0\r\n\r\n")
        peer = peers.Peer(peers.always(answer))
        self.addCleanup(peer.stop)
        server = self.start_hotlined()
        server.broker.Execute(pb.ExecuteRequest(url=peer.target + "/"),
                              timeout=20)
        said = server.stats(target=peer.target).targets[0].keep_alive
        self.assertEqual(said.said.seconds, 1)
        self.assertEqual(said.idle_for.nanos, 500_000_000)
        # The peer itself never closes it.
        wait.until(lambda: peer.open == 0, "it is retired", 30)
        closed = 'hotline_connections_closed_total{target="%s",reason="idle"}'
        self.assertEqual(server.metrics()[closed % peer.target], 1)


class LearnedTest(harness.EndToEnd):
    """An nginx that closes what has been idle for a second (by hand: five)."""

    def keep_alive(self, server, target):
        return server.stats(target=target).targets[0].keep_alive

    def call(self, server, target, group=""):
        """POST: one that meets a closed connection cannot be made again."""
        return server.broker.Execute(
            pb.ExecuteRequest(
                url=target + "/204", method="POST",
                options=pb.ConnectionOptions(pool_group=group)), timeout=20)

    def test_after_learning_no_connection_is_stale(self):
        calls = int(os.environ.get("HOTLINE_CALLS", 600))
        limit = 5 if calls > 5000 else 1
        _, server, target = self.start_both(
            {"pool": {"max_connections": 300,
                      "max_connections_per_target": 300}},
            extra="keepalive_timeout %ds;" % limit)
        # nginx closing two is enough to learn from, unless a busy machine makes
        # them differ.
        for _ in range(10):
            self.call(server, target)
            wait.until(lambda: server.stats().totals.connections.idle == 0,
                       "nginx closes it", 30)
            learned = self.keep_alive(server, target)
            if learned.HasField("learned"):
                break
        self.assertTrue(learned.HasField("learned"), learned)
        self.assertAlmostEqual(learned.learned.ToTimedelta().total_seconds(),
                               limit, delta=limit * 0.3)

        failed = []
        stop = threading.Event()  # At the first failure.

        def work(number, seed):
            # Each has a connection of its own, idle while its caller waits.
            dice = random.Random(seed)
            for _ in range(number):
                if stop.wait(limit * dice.uniform(0.2, 1.3)):
                    return
                try:
                    self.call(server, target, "g%d" % seed)
                except Exception as error:  # pylint: disable=broad-except
                    failed.append(hotlined.reason(error) or str(error))
                    stop.set()

        workers = 200 if calls > 5000 else 40
        threads = [threading.Thread(target=work, args=(calls // workers, seed))
                   for seed in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        metrics = server.metrics()
        label = '{target="%s"}' % target
        self.assertEqual(metrics["hotline_stale_reuse_total" + label], 0)
        self.assertGreater(metrics["hotline_connection_reuse_total" + label],
                           calls // 20, "the pool is of use still")
        server.check_nothing_held()


if __name__ == "__main__":
    unittest.main()
