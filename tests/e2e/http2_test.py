"""HTTP/2 to real servers: nginx and nghttpd."""

import os
import re
import subprocess
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import crowd
import harness
import wait

MEBIBYTE = bytes(range(256)) * 4096
MANY = 50000


class Http2Test(harness.EndToEnd):

    def serve_files(self):
        folder = os.path.join(self.directory, "web")
        os.makedirs(folder, exist_ok=True)
        for name, content in (("small", b"hello\n"), ("large", MEBIBYTE),
                              ("empty", b"")):
            with open(os.path.join(folder, name), "wb") as out:
                out.write(content)
        return folder

    def execute(self, server, url, alpn="", method="GET", **headers):
        return server.broker.Execute(
            pb.ExecuteRequest(
                url=url, method=method,
                headers=[pb.Header(name=name.replace("_", "-"),
                                   value=value.encode())
                         for name, value in headers.items()],
                options=pb.ConnectionOptions(alpn=alpn)),
            timeout=30)

    def test_answers_are_those_of_http1_byte_for_byte(self):
        folder = self.serve_files()
        _, server, target = self.start_both(
            extra="location /file { alias %s; }" % folder, http2=True)
        first = self.execute(server, target + "/file/small")
        self.assertEqual(first.receipt.connection.protocol, "h2")
        tag = next(h.value for h in first.headers if h.name == "etag")
        for method, path, headers, status in (
                ("GET", "/file/small", {}, 200),
                ("GET", "/file/large", {}, 200),
                ("GET", "/file/empty", {}, 200),
                ("HEAD", "/file/large", {}, 200),
                ("GET", "/204", {}, 204),
                ("GET", "/file/small", {"If_None_Match": tag.decode()}, 304),
                ("GET", "/file/large", {"Range": "bytes=1000-200000"}, 206),
                ("GET", "/404", {}, 404),
                ("POST", "/echo", {"X_Id": "7"}, 200)):
            with self.subTest(method=method, path=path, headers=headers):
                answers = [self.execute(server, target + path, alpn, method,
                                        **headers)
                           for alpn in ("http/1.1", "h2", "")]
                self.assertEqual(
                    [a.receipt.connection.protocol for a in answers],
                    ["http/1.1", "h2", "h2"])
                self.assertEqual([a.status for a in answers], [status] * 3)
                self.assertEqual(answers[0].body, answers[1].body)
                self.assertEqual(answers[0].body, answers[2].body)
                fields = [{h.name: h.value for h in a.headers
                           if h.name not in ("date", "connection")}
                          for a in answers]
                self.assertEqual(fields[0], fields[1])
        large = self.execute(server, target + "/file/large", "h2")
        self.assertEqual(large.body, MEBIBYTE)

    def test_nghttpd_is_understood(self):
        folder = self.serve_files()
        certificate = self.authority.issue("nghttpd")
        port = wait.free_port()
        process = wait.start(
            ["nghttpd", "-a", "127.0.0.1", "-d", folder, "--trailer",
             "x-end: yes", "--echo-upload", str(port), certificate.key,
             certificate.cert],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(wait.end, process)
        wait.until(lambda: wait.accepts(port), "nghttpd listens")
        server = self.start_hotlined()
        target = "https://localhost:%d" % port
        for path, content in (("/small", b"hello\n"), ("/large", MEBIBYTE),
                              ("/empty", b"")):
            answer = self.execute(server, target + path)
            self.assertEqual((answer.status, answer.body), (200, content))
            self.assertEqual(answer.receipt.connection.protocol, "h2")
            if content:
                self.assertEqual([(t.name, t.value) for t in answer.trailers],
                                 [("x-end", b"yes")])
        head = self.execute(server, target + "/large", method="HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        upload = server.broker.Execute(
            pb.ExecuteRequest(url=target + "/x", method="POST", body=MEBIBYTE),
            timeout=30)
        self.assertEqual(upload.body, MEBIBYTE)
        self.assertEqual(server.stats().totals.counters.opened, 1)

    def test_protocol_can_be_insisted_on(self):
        plain, server, target = self.start_both()
        del plain
        answer = self.execute(server, target + "/", "http/1.1")
        self.assertEqual(answer.receipt.connection.protocol, "http/1.1")
        with self.assertRaises(grpc.RpcError) as caught:
            self.execute(server, target + "/", "h2")
        self.assert_code(caught.exception, grpc.StatusCode.FAILED_PRECONDITION,
                         "ALPN_MISMATCH")
        with self.assertRaises(grpc.RpcError) as caught:
            self.execute(server, target + "/", "h3")
        self.assert_code(caught.exception, grpc.StatusCode.INVALID_ARGUMENT,
                         "BAD_OPTION")

    def test_1000_at_once_on_a_cold_target_need_8_connections(self):
        upstream, server, target = self.start_both(http2=True)
        # A second and more each: they really are at once.
        calls = crowd.Crowd(
            1000, 1000, lambda number: server.broker.Execute.future(
                pb.ExecuteRequest(url=target + "/slow"), timeout=60))
        self.assertEqual([e.details() for e in calls.errors], [])
        self.assertEqual(len(calls.answers), 1000)
        self.assertTrue(all(len(a.body) == 2048 for a in calls.answers))
        self.assertLessEqual(upstream.accepted_connections(), 8)
        server.check_nothing_held()

    def load(self, server, target, path, requests):
        """By h2load, which sends the same call again and again."""
        message = pb.ExecuteRequest(url=target + path).SerializeToString()
        file = os.path.join(self.directory, "message")
        with open(file, "wb") as out:
            out.write(b"\0" + len(message).to_bytes(4, "big") + message)
        done = subprocess.run(
            ["h2load", "-n", str(requests), "-c", "4", "-m", "64", "-t", "1",
             "-d", file, "-H", "content-type: application/grpc",
             "-H", "te: trailers",
             "http://%s/hotline.v1.Broker/Execute" % server.address],
            capture_output=True, text=True, timeout=120, check=True)
        self.assertEqual(
            re.search(r"(\d+) succeeded, (\d+) failed", done.stdout).groups(),
            (str(requests), "0"), done.stdout)

    def test_goaway_every_100_streams_fails_no_call(self):
        upstream, server, target = self.start_both(
            extra="keepalive_requests 100;", http2=True)
        self.load(server, target, "/", MANY)
        counters = server.stats().totals.counters
        self.assertEqual((counters.executes, counters.execute_failures),
                         (MANY, 0), server.metrics())
        # Each was answered once, and the connections were replaced.
        self.assertEqual(len(upstream.requests("good")), MANY)
        self.assertGreaterEqual(upstream.accepted_connections(), MANY // 100)
        retries = sum(value for name, value in server.metrics().items()
                      if name.startswith("hotline_retries_total"))
        print("%d executes, %d connections, %d retries"
              % (MANY, upstream.accepted_connections(), retries))
        server.check_nothing_held()

    def test_reload_of_nginx_under_load_fails_no_call(self):
        upstream, server, target = self.start_both(http2=True)
        load = threading.Thread(
            target=self.load, args=(server, target, "/", MANY))
        load.start()
        for done in range(1, 6):
            wait.until(lambda least=done: server.stats().totals.counters
                       .executes >= least * MANY // 8, "a part is done", 60)
            upstream.reload()
        load.join()
        counters = server.stats().totals.counters
        self.assertEqual((counters.executes, counters.execute_failures),
                         (MANY, 0))
        self.assertGreaterEqual(counters.opened, 6)


if __name__ == "__main__":
    unittest.main()
