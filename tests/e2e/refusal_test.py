"""Upstreams to which no request may be sent."""

import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import certs
import harness


class CertificateTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        stranger = certs.Authority(self.directory, "stranger")
        self.upstream = self.start_nginx({
            "good": self.authority.issue("good"),
            "expired": self.authority.issue("expired", days=-1),
            "self": certs.self_signed(self.directory),
            "stranger": stranger.issue("foreign"),
            "name": self.authority.issue("name", san="DNS:other.test"),
        })
        self.server = self.start_hotlined()

    def url(self, name, host="localhost"):
        return "https://%s:%d" % (host, self.upstream.ports[name])

    def refused(self, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assert_code(caught.exception,
                         grpc.StatusCode.FAILED_PRECONDITION,
                         "TLS_VERIFY_FAILED")
        return caught.exception

    def test_bad_certificates_are_refused_and_nothing_is_pooled(self):
        for name in ("expired", "self", "stranger", "name"):
            with self.subTest(name):
                self.refused(lambda n=name: self.server.broker.Acquire(
                    pb.AcquireRequest(target=self.url(n)), timeout=10))
                # A POST too: nothing of it may have been sent.
                self.refused(lambda n=name: self.server.broker.Execute(
                    pb.ExecuteRequest(url=self.url(n) + "/", method="POST",
                                      body=b"secret"), timeout=10))
                self.assertEqual(self.upstream.requests(name), [])
        counts = self.server.stats().totals.connections
        self.assertEqual((counts.idle, counts.leased), (0, 0))
        self.assertEqual(self.server.stats().totals.counters.opened, 0)
        self.server.check_nothing_held()

    def test_the_name_decides_and_not_the_address(self):
        answer = self.server.broker.Execute(
            pb.ExecuteRequest(url=self.url("good") + "/"), timeout=10)
        self.assertEqual(answer.status, 200)
        by_address = self.server.broker.Execute(
            pb.ExecuteRequest(url=self.url("good", "127.0.0.1") + "/"),
            timeout=10)
        self.assertEqual(by_address.status, 200)
        # The certificate for other.test is right under its own name, …
        fits = self.server.broker.Execute(
            pb.ExecuteRequest(
                url=self.url("name") + "/",
                options=pb.ConnectionOptions(sni="other.test")), timeout=10)
        self.assertEqual(fits.status, 200)
        # … and the connection made under it serves nobody else.
        self.refused(lambda: self.server.broker.Execute(
            pb.ExecuteRequest(url=self.url("name") + "/"), timeout=10))

    def test_a_failed_target_harms_no_other(self):
        self.refused(lambda: self.server.broker.Acquire(
            pb.AcquireRequest(target=self.url("self")), timeout=10))
        answer = self.server.broker.Execute(
            pb.ExecuteRequest(url=self.url("good") + "/"), timeout=10)
        self.assertEqual(answer.status, 200)


class EgressTest(harness.EndToEnd):

    def denied(self, server, target):
        for call in (
                lambda: server.broker.Acquire(
                    pb.AcquireRequest(target=target), timeout=5),
                lambda: server.broker.Execute(
                    pb.ExecuteRequest(url=target + "/latest/meta-data/"),
                    timeout=5)):
            with self.assertRaises(grpc.RpcError) as caught:
                call()
            self.assert_code(caught.exception,
                             grpc.StatusCode.PERMISSION_DENIED,
                             "EGRESS_DENIED")

    def test_metadata_addresses_are_denied_in_every_disguise(self):
        server = self.start_hotlined(
            {"egress": {"allow": ["0.0.0.0/0", "::/0"]}})
        for host in ("169.254.169.254", "[::ffff:169.254.169.254]",
                     "[::ffff:a9fe:a9fe]", "[64:ff9b::169.254.169.254]",
                     "[2002:a9fe:a9fe::1]", "[fe80::1]", "[fd00:ec2::254]",
                     "100.100.100.200", "224.0.0.1", "255.255.255.255"):
            with self.subTest(host):
                self.denied(server, "http://" + host)
                self.denied(server, "https://" + host)
        counters = server.stats().totals.counters
        self.assertEqual(counters.opened, 0)
        server.check_nothing_held()

    def test_loopback_needs_an_exception(self):
        upstream = self.start_nginx({"plain": None})
        server = self.start_hotlined({"egress": {"allow": []}})
        self.denied(server, "http://127.0.0.1:%d" % upstream.ports["plain"])
        self.denied(server, "http://localhost:%d" % upstream.ports["plain"])
        self.assertEqual(upstream.accepted_connections(), 0)


if __name__ == "__main__":
    unittest.main()
