"""A broker configured by overlays/shared, except for its addresses: who
gets in, and what they may do: shared_test.py KUBECTL."""

import os
import sys
import unittest

import grpc
import yaml
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import harness
import manifests

KUBECTL = os.path.abspath(sys.argv[1])
CHECKOUT = "spiffe://cluster.local/ns/shop/sa/checkout"


class SharedTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        upstream = self.start_nginx()
        self.target = "https://localhost:%d" % upstream.ports["good"]
        self.server = self.start_hotlined(self.config())

    def config(self):
        """The overlay's, with what is this test's own in its place."""
        built = manifests.by_kind(manifests.build(KUBECTL, "overlays/shared"))
        text = built["ConfigMap"]["data"]["hotline.yaml"]
        self.assertEqual(text.count("https://api.example.com"), 1)
        config = yaml.safe_load(
            text.replace("https://api.example.com", self.target))
        broker = self.authority.issue("broker")
        self.socket = os.path.join(self.directory, "s.sock")
        config["listen"].update({
            "grpc": ["0.0.0.0:0", "unix://" + self.socket],
            "http": "127.0.0.1:0", "admin": "127.0.0.1:0",
            "tls": {"cert_file": broker.cert, "key_file": broker.key,
                    "client_ca_file": self.authority.cert},
            "allowed_uids": [os.getuid()]})
        config["egress"]["allow"] += ["127.0.0.0/8", "::1"]
        for rule in config["policy"]["rules"]:
            rule["identities"] = [
                identity.replace("uid:65532", "uid:%d" % os.getuid())
                for identity in rule["identities"]]
        return config

    def caller(self, name, identity):
        """A stub that shows a certificate for `identity`; for none if None."""
        def read(path):
            with open(path, "rb") as file:
                return file.read()
        keys = ()
        if identity:
            own = self.authority.issue(name, san="URI:" + identity)
            keys = (read(own.key), read(own.cert))
        channel = grpc.secure_channel(
            "127.0.0.1:" + self.server.address.rsplit(":", 1)[1],
            grpc.ssl_channel_credentials(read(self.authority.cert), *keys))
        self.addCleanup(channel.close)
        return broker_pb2_grpc.BrokerStub(channel)

    def execute(self, stub, url):
        return stub.Execute(pb.ExecuteRequest(url=url), timeout=20)

    def test_a_known_caller_may_call_what_its_rule_names(self):
        checkout = self.caller("checkout", CHECKOUT)
        self.assertEqual(self.execute(checkout, self.target + "/").status, 200)
        with self.assertRaises(grpc.RpcError) as caught:
            self.execute(checkout, "http://127.0.0.1:1/")
        self.assert_code(caught.exception, grpc.StatusCode.PERMISSION_DENIED,
                         "NOT_AUTHORIZED")

    def test_an_unknown_caller_may_do_nothing(self):
        other = self.caller("other", CHECKOUT + "2")
        with self.assertRaises(grpc.RpcError) as caught:
            self.execute(other, self.target + "/")
        self.assert_code(caught.exception, grpc.StatusCode.PERMISSION_DENIED,
                         "NOT_AUTHORIZED")
        with self.assertRaises(grpc.RpcError) as caught:
            self.execute(self.caller("nobody", None), self.target + "/")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def test_the_probes_and_stats_of_the_pod_pass_and_nothing_else(self):
        address = ("--address", "unix://" + self.socket)
        self.assertEqual(self.hotline(self.server, *address, "health")[0],
                         "SERVING\n")
        self.hotline(self.server, *address, "stats")
        refused = self.hotline(self.server, *address, "get",
                               self.target + "/", code=4)[1]
        self.assertIn("NOT_AUTHORIZED", refused)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
