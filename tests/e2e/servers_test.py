"""Every web server that Debian has, over each protocol it speaks."""

import os
import unittest

from hotline.v1 import broker_pb2 as pb

import harness
import servers


def fields(headers):
    return [(h.name, h.value) for h in headers]


class ServersTest(harness.EndToEnd):

    def execute(self, path, method="GET", body=b"", **headers):
        answer = self.server.broker.Execute(pb.ExecuteRequest(
            url=self.upstream.target + path, method=method, body=body,
            headers=[pb.Header(name=name.replace("_", "-"), value=value)
                     for name, value in headers.items()],
            options=pb.ConnectionOptions(alpn=self.alpn)), timeout=30)
        self.assertEqual(answer.receipt.connection.protocol, self.alpn)
        self.assertEqual(answer.receipt.attempts, 1)
        return answer

    def check(self, path, status, content, method="GET", body=b"",
              **headers):
        with self.subTest(path=path, method=method):
            answer = self.execute(path, method, body, **headers)
            self.assertEqual(answer.status, status)
            # Not assertEqual: it would print a mebibyte.
            self.assertTrue(answer.body == content, len(answer.body))

    def check_files(self):
        for name, content in servers.FILES.items():
            self.check("/file/" + name, 200, content)
        head = self.execute("/file/large", "HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertIn(("content-length", b"%d" % len(servers.LARGE)),
                      fields(head.headers))
        given = dict(fields(head.headers))
        condition = ({"If_None_Match": given["etag"]} if "etag" in given else
                     {"If_Modified_Since": given["last-modified"]})
        self.check("/file/large", 304, b"", **condition)

    def check_origin(self):
        self.check("/origin/chunked", 200, servers.CHUNKED)
        self.check("/origin/204", 204, b"")
        self.check("/origin/echo", 200, servers.LARGE, "POST", servers.LARGE)

    def check_trailers(self):
        answer = self.execute(self.upstream.trailers)
        self.assertEqual(answer.status, 200)
        self.assertEqual(fields(answer.trailers),
                         [(servers.TRAILER[0].decode(), servers.TRAILER[1])])

    def check_all(self, kind):
        # Where root starts them, some become somebody else, who has to read.
        os.chmod(self.directory, 0o755)
        self.upstream = kind(self.directory, self.authority.issue("upstream"))
        self.addCleanup(self.upstream.stop)
        self.server = self.start_hotlined()
        for self.alpn in self.upstream.protocols:
            with self.subTest(protocol=self.alpn):
                # Twice: what an answer leaves behind shows in the next.
                for _ in range(2):
                    self.check_files()
                    if self.upstream.passes_on:
                        self.check_origin()
                    if self.upstream.trailers:
                        self.check_trailers()
        counters = self.server.stats().totals.counters
        self.assertEqual(counters.execute_failures, 0)
        # All on the one connection that each protocol needs.
        self.assertEqual(counters.opened, len(self.upstream.protocols))
        self.server.check_nothing_held()

    def test_nginx(self):
        self.check_all(servers.Nginx)

    def test_apache(self):
        self.check_all(servers.Apache)

    def test_h2o(self):
        self.check_all(servers.H2o)

    def test_nghttpd(self):
        self.check_all(servers.Nghttpd)

    def test_haproxy(self):
        self.check_all(servers.Haproxy)

    def test_caddy(self):
        self.check_all(servers.Caddy)


if __name__ == "__main__":
    unittest.main()
