"""WatchEvents, and `hotline events`, over a real hotlined and nginx."""

import json
import os
import signal
import subprocess
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import wait


class EventsTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both()

    def get(self, timeout=20):
        return self.server.broker.Execute(
            pb.ExecuteRequest(url=self.target + "/"), timeout=timeout)

    def events(self, *words):
        """The lines of `hotline events`."""
        return self.hotline(self.server, "events", *words)[0].splitlines()

    def follow(self, *words):
        """`hotline events -f`, as a process whose output can be read."""
        environment = dict(os.environ, HOTLINE_ADMIN_ADDRESS=self.server.admin)
        # pylint: disable=consider-using-with
        process = subprocess.Popen(
            ("client/hotline", "events", "-f") + words, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def end():
            process.kill()
            process.communicate()
        self.addCleanup(end)
        return process

    def test_a_connections_life_is_listed(self):
        self.get()
        connection = self.server.stats(
            target=self.target,
            view=pb.STATS_VIEW_CONNECTIONS).connections[0].connection_id
        self.hotline(self.server, "evict", "--now", str(connection))
        wait.until(lambda: self.upstream.open_connections() == 0, "it closes")
        only = ["--target", self.target]
        for kind in ("dialing", "ready", "operator", "closed"):
            only += ["--kind", kind]
        wait.until(lambda: len(self.events(*only)) == 4, "all is listed")
        lines = self.events(*only)
        of = "connection %d" % connection
        # The last two are not ordered.
        lines[2:] = sorted(lines[2:], key=lambda line: " operator " not in line)
        for line, words in zip(lines, [
                (" dialing " + self.target + ": " + of,),
                (" ready " + self.target + ": " + of + ", after ",),
                (" operator " + self.target + ": EvictConnection, ",
                 "by a local caller"),
                (" closed " + self.target + ": operator, " + of,
                 "and 1 use")]):
            for word in words:
                self.assertIn(word, line)
        closed = self.events("--target", self.target, "--kind", "closed")
        self.assertEqual(closed, lines[3:])
        number = lines[1].split(" #", 1)[1].split(" ", 1)[0]
        self.assertEqual(set(self.events("--since", number, *only)),
                         set(lines[2:]))
        self.assertIn(" process: started, hotlined ",
                      self.events("--kind", "process")[0])

    def test_it_follows_and_names_the_operator(self):
        process = self.follow("--kind", "operator", "--kind", "config")
        self.hotline(self.server, "pause", self.target)
        self.assertIn(" operator %s: Pause, by a local caller" % self.target,
                      process.stdout.readline())
        self.hotline(self.server, "resume", self.target)
        self.assertIn(": Resume, ", process.stdout.readline())
        self.hotline(self.server, "config", "reload")
        seen = process.stdout.readline() + process.stdout.readline()
        self.assertIn(" config: loaded", seen)
        self.assertIn(" operator: Reload, by", seen)

    def test_following_ends_with_its_time_or_with_the_process(self):
        out, _ = self.hotline(self.server, "events", "-f", "--kind", "breaker",
                              "--max-time", "1s")
        self.assertEqual(out, "")
        process = self.follow("--output", "json")
        first = json.loads(process.stdout.readline())
        self.assertEqual(first["instance"], self.server.stats().instance)
        self.server.process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        self.assertIn('"reason":"draining"', out)
        self.assertIn("DRAINING", err)
        self.assertIn("go on with --since ", err)
        self.assertNotEqual(process.returncode, 0)
        self.assertEqual(self.server.process.wait(timeout=30), 0)
        self.server.stop()  # Closes its log and channel.

    def test_the_broker_streams_and_resumes(self):
        call = self.server.broker.WatchEvents(
            pb.WatchEventsRequest(target=self.target), timeout=60)
        self.addCleanup(call.cancel)
        first = next(call)
        self.assertEqual(first.instance, self.server.stats().instance)
        self.assertEqual(list(first.events), [])
        self.get()
        seen = []
        while pb.EVENT_KIND_READY not in [event.kind for event in seen]:
            response = next(call)
            seen += response.events
        self.assertEqual(seen[0].kind, pb.EVENT_KIND_DIALING)
        again = self.server.broker.WatchEvents(pb.WatchEventsRequest(
            target=self.target, after=first.sequence, instance=first.instance,
            kept_only=True), timeout=20)
        numbers = [event.sequence for response in again
                   for event in response.events]
        self.assertEqual(numbers[:len(seen)],
                         [event.sequence for event in seen])
        lost = next(self.server.broker.WatchEvents(pb.WatchEventsRequest(
            after=1, instance="00000000", kept_only=True), timeout=20))
        self.assertTrue(lost.HasField("gap"))

    def test_an_error_and_stats_have_the_targets_last_events(self):
        self.hotline(self.server, "pause", self.target)
        with self.assertRaises(grpc.RpcError) as caught:
            self.get(timeout=1)
        self.assert_code(caught.exception, grpc.StatusCode.DEADLINE_EXCEEDED,
                         "WAIT_TIMEOUT")
        details = hotlined.error_details(caught.exception)
        last = details["WaitExplanation"].recent_events[-1]
        self.assertEqual((last.kind, last.reason),
                         (pb.EVENT_KIND_OPERATOR, "Pause"))
        row = self.server.stats(target=self.target).targets[0]
        self.assertEqual([event.reason for event in row.recent_events],
                         ["Pause"])

    def test_a_mistyped_kind_is_refused(self):
        _, err = self.hotline(self.server, "events", "--kind", "nonsense",
                              code=2)
        self.assertIn("nonsense", err)


if __name__ == "__main__":
    unittest.main()
