"""Denied destinations, each with a server that would answer.

The addresses are real ones (the clouds' metadata services), so all of it runs
in a network of the test's own, where each of them is this machine.
"""

import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import netns
import peers

_ALWAYS_DENIED = [
    "169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200",
    "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    # The same ones inside of others.
    "64:ff9b::a9fe:a9fe", "2002:a83f:8110::1", "64:ff9b:1::c000:c0",
]
_ALLOWED = ["198.51.100.7", "2001:db8::7"]


def _host(address):
    return "[%s]" % address if ":" in address else address


class Destinations(harness.EndToEnd):
    """Every RPC that makes connections, to one place."""

    def peer(self, address):
        peer = peers.Peer(peers.always(), host=address)
        self.addCleanup(peer.stop)
        return peer

    def outcomes(self, server, host, port, **options):
        """How each RPC that makes connections ends, by its name."""
        options = pb.ConnectionOptions(**options)
        target = "http://%s:%d" % (host, port)
        stub = server.broker
        calls = {
            "Acquire": lambda: stub.Acquire(pb.AcquireRequest(
                target=target, options=options), timeout=20),
            "Execute": lambda: stub.Execute(pb.ExecuteRequest(
                url=target + "/", options=options), timeout=20),
            "ExecuteStream": lambda: list(stub.ExecuteStream(iter([
                pb.ExecuteStreamRequest(head=pb.ExecuteStreamHead(
                    url=target + "/", options=options))]), timeout=20)),
            "Tunnel": lambda: list(stub.Tunnel(iter([pb.TunnelRequest(
                open=pb.TunnelOpen(target="tcp://%s:%d" % (host, port),
                                   options=options))]), timeout=20)),
            "Session": lambda: self.in_session(stub, pb.ExecuteRequest(
                url=target + "/", options=options)),
        }
        found = {}
        for name, call in calls.items():
            try:
                found[name] = call() if name == "Session" else (call(), "OK")[1]
            except grpc.RpcError as error:
                found[name] = hotlined.reason(error)
        return found

    @staticmethod
    def in_session(stub, execute):
        item = pb.SessionItem(id=1, execute=execute)
        for response in stub.Session(iter([pb.SessionRequest(items=[item])]),
                                     timeout=20):
            for result in response.results:
                if result.WhichOneof("outcome") != "error":
                    return "OK"
                return hotlined.details_of(result.error)["ErrorInfo"].reason
        return "nothing"

    def assert_all(self, outcome, found):
        self.assertEqual(found, {name: outcome for name in found})


class EgressTest(Destinations):

    def test_no_configuration_opens_a_metadata_service(self):
        server = self.start_hotlined(
            {"egress": {"allow": ["0.0.0.0/0", "::/0"]}})
        for address in _ALLOWED + _ALWAYS_DENIED:
            netns.add_address(address)
            peer = self.peer(address)
            with self.subTest(address):
                denied = address in _ALWAYS_DENIED
                outcome = "EGRESS_DENIED" if denied else "OK"
                self.assert_all(outcome, self.outcomes(
                    server, _host(address), peer.port))
                self.assert_all(outcome, self.outcomes(
                    server, "api.test", peer.port, remote_ip=address))
                (self.assertEqual if denied else self.assertGreater)(
                    peer.accepted, 0)

    def test_an_allowed_name_does_not_allow_other_addresses(self):
        peer = self.peer("127.0.0.1")
        server = self.start_hotlined(
            {"egress": {"default": "none", "allow": ["api.example.test"]}})
        for remote in ("127.0.0.1", "::ffff:127.0.0.1"):
            self.assert_all("EGRESS_DENIED", self.outcomes(
                server, "api.example.test", peer.port, remote_ip=remote))
        self.assertEqual(peer.accepted, 0)


class PolicyTest(Destinations):

    def test_a_policy_sees_sni_and_address_for_every_rpc(self):
        peer = self.peer("127.0.0.1")
        port = peer.port
        # Over TCP the caller is anonymous, and so is the rule.
        server = self.start_hotlined({"policy": {
            "default": "deny",
            "rules": [{"identities": ["anonymous"],
                       "targets": ["http://public.test:%d" % port,
                                   "https://public.test:%d" % port,
                                   "tcp://public.test:%d" % port]}]}})
        self.assert_all("NO_IDENTITY", self.outcomes(
            server, "public.test", port, remote_ip="127.0.0.1"))
        for sni in ("secret.test", "SECRET.test"):
            with self.assertRaises(grpc.RpcError) as caught:
                server.broker.Execute(pb.ExecuteRequest(
                    url="https://public.test:%d/" % port,
                    options=pb.ConnectionOptions(sni=sni)), timeout=20)
            self.assert_code(caught.exception, grpc.StatusCode.UNAUTHENTICATED,
                             "NO_IDENTITY")
            self.assertIn("with the SNI " + sni, caught.exception.details())
        self.assertEqual(peer.accepted, 0)


if __name__ == "__main__":
    netns.enter()
    unittest.main()
