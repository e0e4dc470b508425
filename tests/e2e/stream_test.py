"""ExecuteStream against real servers: bytes, memory, and every kind of end."""

import os
import signal
import subprocess
import time
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import peers
import streams
import wait

MIB = 1 << 20
# By hand also a GiB each: with both of these set to 1024.
LARGE = int(os.environ.get("HOTLINE_STREAM_MIB", "256")) * MIB
SLOW = int(os.environ.get("HOTLINE_SLOW_STREAM_MIB", "64")) * MIB
# What one stream may cost at its peak: two bodies' worth of 1 MiB, messages of
# 256 KiB in several hands, and what gRPC and the allocator add to that.
MOST_GROWTH = 32 * MIB

# Stores what it is sent in a file, and answers 204.
STORE = """
    location = /up {
      client_max_body_size 0;
      client_body_in_file_only on;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_method GET;
      proxy_ssl_verify off;
      proxy_pass https://127.0.0.1:$server_port/204;
    }
    location /file { alias %s; }
    location /slowfile { limit_rate 64k; alias %s; }
"""


class StreamTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.folder = os.path.join(self.directory, "web")
        os.makedirs(self.folder)

    def serve(self, config=None):
        return self.start_both(config, extra=STORE % (self.folder, self.folder),
                               http2=True)

    def start_nghttpd(self):
        certificate = self.authority.issue("nghttpd")
        port = wait.free_port()
        process = wait.start(
            ["nghttpd", "-a", "127.0.0.1", "-d", self.folder, "--trailer",
             "x-end: yes", "--echo-upload", str(port), certificate.key,
             certificate.cert],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(wait.end, process)
        wait.until(lambda: wait.accepts(port), "nghttpd listens")
        return process, "https://localhost:%d" % port

    def file(self, name, size):
        return streams.write_file(os.path.join(self.folder, name), size)

    def stored(self, upstream):
        """What nginx has stored since the last look."""
        folder = os.path.join(upstream.directory, "body")
        names = [os.path.join(folder, name) for name in os.listdir(folder)]
        found = [streams.checksum_of_file(name) for name in names]
        for name in names:
            os.remove(name)
        return found

    def assert_small(self, server, before):
        now, peak = streams.memory(server.process)
        self.assertLess(peak - before, MOST_GROWTH,
                        "at the peak, of %d bytes before" % before)
        return now

    def assert_fails(self, stream, code, reason, verdict=None):
        with self.assertRaises(grpc.RpcError) as caught:
            stream.read_all()
        self.assert_code(caught.exception, code, reason)
        info = hotlined.error_details(caught.exception)["ErrorInfo"]
        if verdict:
            self.assertEqual(info.metadata["verdict"], verdict)
        self.assertIsNone(stream.end)

    def assert_clean(self, server, descriptors):
        server.check_nothing_held()
        server.check_descriptors(descriptors)

    def test_bodies_are_equal_both_ways(self):
        upstream, server, target = self.serve()
        wanted = {size: self.file(str(size), size)
                  for size in (0, 6, MIB, 5 * MIB + 1)}
        for alpn in ("http/1.1", "h2"):
            for size, checksum in wanted.items():
                with self.subTest(alpn=alpn, size=size):
                    down = streams.Stream(server, target + "/file/%d" % size,
                                          body=(), alpn=alpn).read_all()
                    self.assertEqual(down.head.status, 200)
                    self.assertEqual(down.got, checksum)
                    self.assertEqual(down.end.receipt.connection.protocol,
                                     alpn)
                    for known in (True, False):
                        fields = {"content_length": size} if known else {}
                        up = streams.Stream(
                            server, target + "/up", "PUT", alpn=alpn,
                            body=streams.pieces(size), **fields).read_all()
                        self.assertEqual(up.head.status, 204)
                        self.assertEqual(up.sent, checksum)
                        # Of an empty body there may be no file.
                        self.assertEqual(self.stored(upstream)[:size],
                                         [checksum][:size])
        self.assertEqual(server.stats().totals.counters.opened, 2)
        server.check_nothing_held()
        results = server.metrics()
        self.assertEqual(results[
            'hotline_executes_total{target="%s",result="ok"}' % target], 24)
        self.assertEqual(results['hotline_rpc_seconds_count{'
                                 'method="ExecuteStream",code="OK"}'], 24)

    def test_memory_stays_flat_whatever_the_length(self):
        upstream, server, target = self.serve()
        wanted = self.file("large", LARGE)
        # What the first calls need for good: threads, arenas, buffers.
        for alpn in ("http/1.1", "h2"):
            streams.Stream(server, target + "/up", "PUT", alpn=alpn,
                           body=streams.pieces(4 * MIB)).read_all()
        self.stored(upstream)
        before = streams.memory(server.process)[0]
        for alpn in ("http/1.1", "h2"):
            with self.subTest(alpn=alpn):
                streams.reset_peak(server.process)
                down = streams.Stream(server, target + "/file/large", body=(),
                                      alpn=alpn).read_all()
                self.assertEqual(down.got, wanted)
                self.assert_small(server, before)
                up = streams.Stream(server, target + "/up", "PUT", alpn=alpn,
                                    body=streams.pieces(LARGE)).read_all()
                self.assertEqual(up.head.status, 204)
                self.assertEqual(self.stored(upstream), [wanted])
                now = self.assert_small(server, before)
                print("%s: %.1f MiB before, %.1f MiB after" % (
                    alpn, before / MIB, now / MIB))

    def test_a_slow_reader_costs_bounded_memory(self):
        _, server, target = self.serve(
            {"pool": {"max_connections_per_target": 1}})
        wanted = self.file("large", SLOW)
        self.file("small", MIB)
        # HTTP/1.1 has no room beside the slow one on its connection.
        neighbour = peers.Peer(peers.always(peers.ok(b"x" * MIB)))
        self.addCleanup(neighbour.stop)
        for alpn in ("http/1.1", "h2"):
            with self.subTest(alpn=alpn):
                streams.Stream(server, target + "/file/small", body=(),
                               alpn=alpn).read_all()
                before = streams.memory(server.process)[0]
                streams.reset_peak(server.process)
                slow = streams.Stream(server, target + "/file/large", body=(),
                                      alpn=alpn)
                while slow.got.size < MIB:
                    slow.read()
                # It stands still while others are sent more than it may hold.
                url, options = (
                    (target + "/file/small", {"alpn": alpn}) if alpn == "h2"
                    else (neighbour.target + "/", {}))
                for _ in range(2 * MOST_GROWTH // MIB):
                    other = streams.Stream(server, url, body=(),
                                           **options).read_all()
                    self.assertEqual(other.got.size, MIB)
                self.assert_small(server, before)
                slow.read_all()
                self.assertEqual(slow.got, wanted)
                self.assert_small(server, before)
        # With HTTP/2 the others were on the same connection.
        self.assertEqual(
            server.stats(target=target).targets[0].counters.opened, 2)

    def test_many_standstills_stay_within_the_connections_window(self):
        _, server, target = self.serve(
            {"pool": {"max_connections_per_target": 1}})
        self.file("large", 8 * MIB)
        streams.Stream(server, target + "/file/large", body=()).read_all()
        stalled = [streams.Stream(server, target + "/file/large", body=())
                   for _ in range(8)]
        for stream in stalled:
            while stream.head is None:
                stream.read()
        answers = [server.broker.Execute(
            pb.ExecuteRequest(url=target + "/"), timeout=10).status
                   for _ in range(50)]
        self.assertEqual(answers, [200] * 50)
        for stream in stalled:
            stream.cancel()
        server.check_nothing_held()
        self.assertEqual(server.stats().totals.counters.opened, 1)

    def test_nghttpd_gives_back_what_it_is_sent(self):
        _, target = self.start_nghttpd()
        server = self.start_hotlined()
        for size in (1, MIB, 64 * MIB):
            stream = streams.Stream(server, target + "/", "POST",
                                    body=streams.pieces(size)).read_all()
            self.assertEqual(stream.got, stream.sent)
            self.assertEqual(stream.got.size, size)
        self.file("small", 1000)
        down = streams.Stream(server, target + "/small", body=()).read_all()
        self.assertEqual(down.got.size, 1000)
        self.assertEqual([(t.name, t.value) for t in down.end.trailers],
                         [("x-end", b"yes")])
        self.assertEqual(server.stats().totals.counters.opened, 1)

    def test_each_side_ends_on_its_own(self):
        def read_until(connection, data, wanted):
            while wanted not in data:
                more = connection._read()  # pylint: disable=protected-access
                if not more:
                    raise OSError("it has gone")
                data += more
            return data

        def script(connection):
            data = read_until(connection, b"", b"early")
            connection.send(b"HTTP/1.1 200 OK\r\n"
                            b"Transfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n")
            read_until(connection, data, b"\r\n0\r\n\r\n")
            connection.send(b"4\r\nlate\r\n0\r\nx-end: yes\r\n\r\n")
            connection.await_close()
        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        server = self.start_hotlined()
        stream = streams.Stream(server, peer.target + "/", "POST")
        stream.send(b"early")
        while stream.got.size < 3:
            stream.read()
        stream.send(b"more")
        stream.close()
        stream.read_all()
        self.assertEqual(stream.got.size, 7)
        self.assertEqual(stream.end.trailers[0].name, "x-end")

    def test_cancelled_at_any_point_nothing_is_left(self):
        upstream, server, target = self.serve({"pool": {"idle_timeout": "1s"}})
        self.file("large", 64 * MIB)
        server.stats()
        descriptors = server.descriptors()
        for alpn in ("http/1.1", "h2"):
            for count in (0, 1, 10):
                down = streams.Stream(server, target + "/file/large", body=(),
                                      alpn=alpn)
                for _ in range(count):
                    down.read()
                slow = streams.Stream(server, target + "/slow", body=(),
                                      alpn=alpn)
                begun = streams.Stream(server, target + "/up", "PUT",
                                       alpn=alpn)
                begun.send(b"begun")
                up = streams.Stream(server, target + "/up", "PUT",
                                    streams.endless(), alpn=alpn)
                wait.until(lambda: up.sent.size >= count * streams.PIECE,
                           "it is on its way", 30)
                for stream in (down, slow, begun, up):
                    stream.cancel()
                    with self.assertRaises(grpc.RpcError) as caught:
                        stream.read_all()
                    self.assertEqual(caught.exception.code(),
                                     grpc.StatusCode.CANCELLED)
        self.assert_clean(server, descriptors)
        # No upload that was broken off was taken for a whole one.
        self.assertEqual([r.status for r in upstream.requests("good")
                          if r.uri == "/up" and r.status == "204"], [])

    def test_a_dead_upstream_is_reported_with_its_verdict(self):
        upstream, server, target = self.serve()
        self.file("large", MIB)
        for alpn in ("http/1.1", "h2"):
            streams.Stream(server, target + "/file/large", body=(),
                           alpn=alpn).read_all()
        dying = [streams.Stream(server, target + "/slowfile/large", body=(),
                                alpn=alpn) for alpn in ("http/1.1", "h2")]
        for stream in dying:
            while stream.got.size == 0:
                stream.read()
        upstream.stop()
        for stream in dying:
            self.assert_fails(stream, grpc.StatusCode.ABORTED,
                              "UPSTREAM_RESET", "RESPONSE_STARTED")
        server.check_nothing_held()

    def test_the_deadline_holds_midway(self):
        _, server, target = self.serve()
        self.file("large", MIB)
        for alpn in ("http/1.1", "h2"):
            start = time.monotonic()
            stream = streams.Stream(server, target + "/slowfile/large", body=(),
                                    alpn=alpn, limit=1)
            self.assert_fails(stream, grpc.StatusCode.DEADLINE_EXCEEDED,
                              "UPSTREAM_TIMEOUT", "RESPONSE_STARTED")
            self.assertGreater(stream.got.size, 0)
            self.assertGreater(time.monotonic() - start, 0.9)
        idle = streams.Stream(server, target + "/up", "PUT", limit=0.5)
        self.assert_fails(idle, grpc.StatusCode.DEADLINE_EXCEEDED,
                          "CALLER_TIMEOUT")
        idle.close()
        server.check_nothing_held()

    def test_a_drain_waits_for_a_stream_and_then_ends_it(self):
        _, server, target = self.serve({"shutdown_grace": "1s"})
        self.file("large", 4 * MIB)
        stream = streams.Stream(server, target + "/slowfile/large", body=())
        while stream.got.size == 0:
            stream.read()
        server.process.send_signal(signal.SIGTERM)
        wait.until(lambda: server.page("/readyz")[0] == 503, "it drains")
        stream.read()
        self.assert_fails(stream, grpc.StatusCode.ABORTED, "UPSTREAM_RESET",
                          "RESPONSE_STARTED")
        self.assertEqual(server.stop(), 0)

    def test_hotline_streams_files(self):
        upstream, server, target = self.serve()
        wanted = self.file("large", 40 * MIB)
        out = os.path.join(self.directory, "out")
        _, err = self.hotline(server, "get", "--receipt", "-o", out,
                              target + "/file/large")
        self.assertEqual(streams.checksum_of_file(out), wanted)
        self.assertIn("status     200, %d bytes" % (40 * MIB), err)
        # Not on a terminal: no bar.
        self.assertNotIn("\r", err)
        self.hotline(server, "get", "-f", "-T", out, target + "/up")
        self.assertEqual(self.stored(upstream), [wanted])
        self.hotline(server, "get", "-f", "-T", "-", target + "/up",
                     stdin=b"from a pipe")
        self.assertEqual([c.size for c in self.stored(upstream)], [11])


if __name__ == "__main__":
    unittest.main()
