"""Warm targets are warm again after a restart, before the first call."""

import json
import os
import unittest

from hotline.v1 import broker_pb2 as pb

import harness
import peers
import wait


class Restart(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.file = os.path.join(self.directory, "warm.json")

    def peer(self, script=peers.always()):
        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        return peer

    def written(self):
        """Target -> connections, as the file has it by now."""
        if not os.path.exists(self.file):
            return {}
        with open(self.file, encoding="utf-8") as file:
            entries = json.load(file).get("entries", [])
        return {e["target"]: e["connections"] for e in entries}

    def heat(self, server, target, connections):
        """Waits until this many connections are idle."""
        leases = [server.broker.Acquire(
            pb.AcquireRequest(target=target), timeout=20).lease.lease_id
                  for _ in range(connections)]
        for lease in leases:
            server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                  timeout=20)

    def check_hot(self, server, target):
        """A call finds a connection that is ready."""
        answer = server.broker.Execute(pb.ExecuteRequest(url=target + "/"),
                                       timeout=20)
        self.assertFalse(answer.receipt.HasField("wait"))
        self.assertFalse(answer.receipt.timings.HasField("connect"))


class WarmSetTest(Restart):

    def test_after_kill_9_the_set_is_hot_before_the_first_call(self):
        busy, calm = self.peer(), self.peer()
        server = self.start_hotlined(
            {"rewarm": {"file": self.file, "interval": "1s",
                        "ready_when_warm": True}})
        self.heat(server, busy.target, 3)
        self.heat(server, calm.target, 2)
        wanted = {busy.target: 3, calm.target: 2}
        wait.until(lambda: self.written() == wanted, "it is written down", 30)
        server.process.kill()
        server.process.wait(30)
        wait.until(lambda: busy.open == calm.open == 0, "all is gone", 30)

        server.start_again()
        wait.until(lambda: server.page("/readyz")[0] == 200, "it is ready", 30)
        self.assertEqual(server.stats().totals.connections.idle, 5)
        self.assertEqual(server.stats().totals.counters.acquires, 0)
        self.check_hot(server, busy.target)
        self.check_hot(server, calm.target)
        self.assertEqual((busy.accepted, calm.accepted), (6, 4))
        self.assertIn("the warm set has been made", server.log())

    def test_a_drain_writes_the_warm_set_too(self):
        peer = self.peer()
        server = self.start_hotlined(
            {"rewarm": {"file": self.file, "interval": "3600s"}})
        self.heat(server, peer.target, 2)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(self.written(), {peer.target: 2})
        self.assertEqual(os.listdir(self.directory).count("warm.json.tmp"), 0)

    def test_a_file_that_is_no_warm_set_is_kept_and_reported(self):
        peer = self.peer()
        for text in ("{", '{"kind": "something else"}', "\x00\xff" * 100, ""):
            with open(self.file, "w", encoding="latin-1") as file:
                file.write(text)
            server = self.start_hotlined(
                {"rewarm": {"file": self.file, "interval": "1s",
                            "ready_when_warm": True}})
            wait.until(lambda: server.page("/readyz")[0] == 200,
                       "it is ready all the same", 30)
            self.assertIn("the warm set cannot be used", server.log())
            self.check_served(server, peer)
            # And it is a good one from then on.
            wait.until(lambda: self.written_or_none() == {peer.target: 1},
                       "it is replaced", 30)
            self.assertEqual(server.stop(), 0)

    def check_served(self, server, peer):
        self.assertEqual(server.broker.Execute(
            pb.ExecuteRequest(url=peer.target + "/"), timeout=20).status, 200)

    def written_or_none(self):
        try:
            return self.written()
        except ValueError:
            return None

    def test_an_absent_upstream_does_not_delay_callers_for_long(self):
        gone = "http://127.0.0.1:%d" % wait.free_port()
        with open(self.file, "w", encoding="utf-8") as file:
            json.dump({"kind": "hotline.v1.WarmSet", "entries": [
                {"target": gone, "connections": 3}]}, file)
        server = self.start_hotlined(
            {"rewarm": {"file": self.file, "interval": "3600s",
                        "patience": "1s", "ready_when_warm": True}})
        status, _, _ = server.page("/readyz")
        self.assertIn(status, (200, 503))
        wait.until(lambda: server.page("/readyz")[0] == 200, "it gives up", 30)
        self.assertEqual(server.page("/healthz")[0], 200)


class FloorTest(Restart):

    def test_ready_when_the_floor_is_there_where_that_is_asked_for(self):
        awaited = self.peer()
        gone = "http://127.0.0.1:%d" % wait.free_port()
        server = self.start_hotlined({"targets": [
            {"target": awaited.target, "warm": 2, "ready_when_warm": True},
            {"target": gone, "warm": 1}]})
        wait.until(lambda: server.page("/readyz")[0] == 200, "it is ready", 30)
        self.assertEqual(server.stats(target=awaited.target)
                         .totals.connections.idle, 2)
        wait.until(lambda: server.health("target:" + awaited.target)
                   == "SERVING", "its health says so", 30)
        self.assertEqual(server.health("target:" + gone), "NOT_SERVING")
        self.assertEqual(server.health("target:http://other"), "NOT_FOUND")
        self.assertEqual(server.health(), "SERVING")

        # One that is asked for and not there: not ready, and alive.
        server.config["targets"][1]["ready_when_warm"] = True
        server.write_config()
        self.assertEqual(server.stop(), 0)
        server.start_again()
        wait.until(lambda: server.health("target:" + awaited.target)
                   == "SERVING", "the other one is there", 30)
        self.assertEqual(server.page("/readyz")[0], 503)
        self.assertEqual(server.page("/healthz")[0], 200)
        self.assertEqual(server.health(), "SERVING")


if __name__ == "__main__":
    unittest.main()
