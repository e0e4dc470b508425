"""The policy, end to end: permissions, quotas and their errors."""

import os
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import harness
import hotlined
import wait

Code = grpc.StatusCode


class PolicyTest(harness.EndToEnd):
    """Callers by certificate, by user (ourselves), and nobody in particular."""

    def setUp(self):
        super().setUp()
        self.upstream = self.start_nginx({"plain": None, "other": None})
        self.here = "http://127.0.0.1:%d" % self.upstream.ports["plain"]
        self.there = "http://127.0.0.1:%d" % self.upstream.ports["other"]
        self.me = "uid:%d" % os.getuid()
        self.certificates = {
            name: self.authority.issue(name, san=san) for name, san in [
                ("pay", "URI:spiffe://prod/pay"), ("web", "DNS:web.test"),
                ("ops", "DNS:ops.test")]}

    def start(self, policy):
        issued = self.authority.issue("server")
        socket = os.path.join(self.directory, "hotlined", "h.sock")
        server = self.start_hotlined({
            "listen": {"grpc": ["0.0.0.0:0", "127.0.0.1:0",
                                "unix://" + socket],
                       "tls": {"cert_file": issued.cert,
                               "key_file": issued.key,
                               "client_ca_file": self.authority.cert}},
            "policy": policy})
        listening = [line.rsplit("address=", 1)[1] for line in
                     server.log().splitlines() if "protocol=grpc" in line]
        self.tls_port = listening[0].rsplit(":", 1)[1]
        self.stubs = {"nobody": self.stub(listening[1]),
                      "me": self.stub("unix://" + socket)}
        for name in self.certificates:
            self.stubs[name] = self.tls_stub(name)
        return server

    def stub(self, address):
        channel = grpc.insecure_channel(address)
        self.addCleanup(channel.close)
        return broker_pb2_grpc.BrokerStub(channel)

    def tls_stub(self, name):
        def read(path):
            with open(path, "rb") as file:
                return file.read()
        certificate = self.certificates[name]
        channel = grpc.secure_channel(
            "127.0.0.1:" + self.tls_port, grpc.ssl_channel_credentials(
                read(self.authority.cert), read(certificate.key),
                read(certificate.cert)),
            options=[("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return broker_pb2_grpc.BrokerStub(channel)

    def call(self, name, rpc, target=""):
        """The status code's name and the reason, or "OK"."""
        stub = self.stubs[name]
        request = {
            "Acquire": lambda: stub.Acquire(
                pb.AcquireRequest(target=target), timeout=20),
            "Execute": lambda: stub.Execute(
                pb.ExecuteRequest(url=target + "/"), timeout=20),
            "Stats": lambda: stub.Stats(pb.StatsRequest(), timeout=20),
            "ExecuteStream": lambda: list(stub.ExecuteStream(iter([
                pb.ExecuteStreamRequest(head=pb.ExecuteStreamHead(
                    url=target + "/"))]), timeout=20)),
            "Tunnel": lambda: self.tunnel(stub, pb.TunnelOpen(
                target=target.replace("http:", "tcp:"))),
            "Session": lambda: self.in_session(stub),
        }[rpc]
        try:
            answer = request()
        except grpc.RpcError as error:
            return "%s/%s" % (error.code().name, hotlined.reason(error))
        if rpc == "Acquire":
            stub.Release(pb.ReleaseRequest(lease_id=answer.lease.lease_id),
                         timeout=20)
        return "OK"

    def test_the_matrix(self):
        server = self.start({"default": "deny", "rules": [
            {"identities": ["spiffe://prod/*"], "targets": [self.here],
             "rpcs": ["Acquire", "Execute"]},
            {"identities": ["dns:web.test"], "targets": [self.there],
             "rpcs": ["Execute"]},
            {"identities": ["dns:ops.test", self.me]},
            {"identities": ["anonymous"], "rpcs": ["Stats"]},
        ]})
        denied, unknown = ("PERMISSION_DENIED/NOT_AUTHORIZED",
                           "UNAUTHENTICATED/NO_IDENTITY")
        wanted = {  # Acquire here, there; Execute here, there; Stats.
            "pay": ["OK", denied, "OK", denied, denied],
            "web": [denied, denied, denied, "OK", denied],
            "ops": ["OK"] * 5,
            "me": ["OK"] * 5,
            "nobody": [unknown, unknown, unknown, unknown, "OK"],
        }
        for name, outcomes in wanted.items():
            got = [self.call(name, rpc, target) for rpc, target in (
                ("Acquire", self.here), ("Acquire", self.there),
                ("Execute", self.here), ("Execute", self.there),
                ("Stats", ""))]
            self.assertEqual(got, outcomes, name)
        counts = server.metrics()
        for labels, count in (
                ('method="Acquire",reason="not_authorized"', 3),
                ('method="Execute",reason="not_authorized"', 2),
                ('method="Stats",reason="not_authorized"', 2),
                ('method="Acquire",reason="no_identity"', 2),
                ('method="Execute",reason="no_identity"', 2)):
            self.assertEqual(
                counts["hotline_denials_total{%s}" % labels], count, labels)
        log = server.log()
        self.assertIn("denied identity=spiffe://prod/pay", log)
        server.check_nothing_held_as(self.stubs["ops"])

        # The same callers under another policy, without a restart.
        server.config["policy"] = {"default": "allow", "rules": [
            {"identities": ["dns:ops.test"], "rpcs": ["Stats"]}]}
        server.write_config()
        wait.until(lambda: self.call("web", "Acquire", self.here) == "OK",
                   "the policy was reloaded", 30)
        self.assertEqual(self.call("ops", "Execute", self.here), denied)
        self.assertEqual(self.call("nobody", "Execute", self.here), "OK")

    @staticmethod
    def tunnel(stub, head):
        """Opened, and ended by us."""
        opened = threading.Event()

        def requests():
            yield pb.TunnelRequest(open=head)
            opened.wait(20)

        responses = stub.Tunnel(requests(), timeout=20)
        try:
            for response in responses:
                if response.WhichOneof("message") == "opened":
                    opened.set()
        finally:
            opened.set()

    @staticmethod
    def in_session(stub, *items):
        """How each item of a session ends, by its id: "OK" or its error."""
        for number, item in enumerate(items, 1):
            item.id = number
        outcomes, answered = {}, threading.Event()

        def requests():
            yield pb.SessionRequest(items=items)
            if items:
                answered.wait(20)

        for response in stub.Session(requests(), timeout=30):
            for result in response.results:
                outcomes[result.id] = "OK"
                if result.WhichOneof("outcome") == "error":
                    info = hotlined.details_of(result.error)["ErrorInfo"]
                    outcomes[result.id] = info.reason
            if len(outcomes) == len(items):
                answered.set()
        return [outcomes[number] for number in sorted(outcomes)]

    def test_the_matrix_of_streams(self):
        tcp_here = self.here.replace("http:", "tcp:")
        server = self.start({"default": "deny", "rules": [
            {"identities": ["spiffe://prod/*"], "targets": [self.here],
             "rpcs": ["ExecuteStream"]},
            {"identities": ["dns:web.test"], "targets": [tcp_here],
             "rpcs": ["Tunnel"]},
            {"identities": ["dns:ops.test"]},
            {"identities": [self.me], "targets": [self.here],
             "rpcs": ["Session", "Execute"]},
        ]})
        denied, unknown = ("PERMISSION_DENIED/NOT_AUTHORIZED",
                           "UNAUTHENTICATED/NO_IDENTITY")
        wanted = {  # ExecuteStream here, there; Tunnel here, there; Session.
            "pay": ["OK", denied, denied, denied, denied],
            "web": [denied, denied, "OK", denied, denied],
            "ops": ["OK"] * 5,
            "me": [denied, denied, denied, denied, "OK"],
            "nobody": [unknown] * 5,
        }
        for name, outcomes in wanted.items():
            got = [self.call(name, rpc, target) for rpc, target in (
                ("ExecuteStream", self.here), ("ExecuteStream", self.there),
                ("Tunnel", self.here), ("Tunnel", self.there),
                ("Session", ""))]
            self.assertEqual(got, outcomes, name)

        # An item of a session is the RPC of its name.
        execute = lambda target: pb.SessionItem(
            execute=pb.ExecuteRequest(url=target + "/"))
        acquire = lambda: pb.SessionItem(
            acquire=pb.AcquireRequest(target=self.here))
        self.assertEqual(
            self.in_session(self.stubs["me"], execute(self.here),
                            execute(self.there), acquire()),
            ["OK", "NOT_AUTHORIZED", "NOT_AUTHORIZED"])
        self.assertEqual(
            self.in_session(self.stubs["ops"], execute(self.here),
                            execute(self.there), acquire()), ["OK"] * 3)
        counts = server.metrics()
        for labels, count in (
                ('method="ExecuteStream",reason="not_authorized"', 5),
                ('method="Tunnel",reason="not_authorized"', 5),
                ('method="Session",reason="not_authorized"', 2),
                ('method="Execute",reason="not_authorized"', 1),
                ('method="Acquire",reason="not_authorized"', 1),
                ('method="Session",reason="no_identity"', 1)):
            self.assertEqual(
                counts["hotline_denials_total{%s}" % labels], count, labels)
        server.check_nothing_held_as(self.stubs["ops"])

    def test_streams_have_no_way_to_anothers_lease(self):
        server = self.start({"rules": []})
        ops, web = self.stubs["ops"], self.stubs["web"]
        lease = ops.Acquire(pb.AcquireRequest(target=self.here),
                            timeout=20).lease.lease_id
        own = ops.Acquire(pb.AcquireRequest(
            target=self.here.replace("http:", "tcp:"),
            mode=pb.MODE_EXCLUSIVE), timeout=20).lease.lease_id
        for call in (
                lambda: list(web.ExecuteStream(iter([pb.ExecuteStreamRequest(
                    head=pb.ExecuteStreamHead(url=self.here + "/",
                                              lease_id=lease))]), timeout=20)),
                lambda: self.tunnel(web, pb.TunnelOpen(lease_id=own))):
            with self.assertRaises(grpc.RpcError) as caught:
                call()
            self.assert_code(caught.exception, Code.PERMISSION_DENIED,
                             "LEASE_NOT_YOURS")
        self.assertEqual(self.in_session(
            web,
            pb.SessionItem(execute=pb.ExecuteRequest(url=self.here + "/",
                                                     lease_id=lease)),
            pb.SessionItem(renew=pb.RenewRequest(lease_id=lease)),
            pb.SessionItem(release=pb.ReleaseRequest(lease_id=lease))),
            ["LEASE_NOT_YOURS"] * 3)
        # The lease has come to no harm, and serves its owner in a session, too.
        self.assertEqual(self.in_session(
            ops,
            pb.SessionItem(renew=pb.RenewRequest(lease_id=lease)),
            pb.SessionItem(execute=pb.ExecuteRequest(url=self.here + "/",
                                                     lease_id=lease))),
            ["OK"] * 2)
        for held in (lease, own):
            self.assertFalse(ops.Release(pb.ReleaseRequest(
                lease_id=held), timeout=20).already_released)
        server.check_nothing_held_as(ops)

    def test_quotas(self):
        server = self.start({"rules": [
            {"identities": ["dns:web.test"], "max_leases": 2},
            {"identities": ["dns:ops.test"], "requests_per_second": 5},
            {"identities": ["spiffe://prod/pay"], "max_waiters": 1}]})

        def quota(call, limit):
            with self.assertRaises(grpc.RpcError) as caught:
                call()
            self.assert_code(caught.exception, Code.RESOURCE_EXHAUSTED, "QUOTA")
            details = hotlined.error_details(caught.exception)
            self.assertEqual(details["ErrorInfo"].metadata["limit"], limit)
            self.assertIn("RetryInfo", details)

        web = self.stubs["web"]
        lease = lambda stub=web: stub.Acquire(
            pb.AcquireRequest(target=self.here), timeout=20).lease.lease_id
        held = [lease(), lease()]
        quota(lease, "max_leases")
        lease(self.stubs["nobody"])  # Others have their own.
        web.Release(pb.ReleaseRequest(lease_id=held[0]), timeout=20)
        held[0] = lease()
        # What ends by itself makes room as well.
        web.Renew(pb.RenewRequest(lease_id=held[0], lease_ttl=hotlined.seconds(
            0.05)), timeout=20)
        wait.until(lambda: web.Release(pb.ReleaseRequest(
            lease_id=held[0]), timeout=20).already_released, "it has ended")
        lease()
        quota(lease, "max_leases")

        ops = self.stubs["ops"]
        answered = 0
        with self.assertRaises(grpc.RpcError) as caught:
            for _ in range(50):
                ops.Stats(pb.StatsRequest(), timeout=20)
                answered += 1
        self.assert_code(caught.exception, Code.RESOURCE_EXHAUSTED, "QUOTA")
        self.assertGreaterEqual(answered, 5)
        self.assertGreater(server.metrics()[
            'hotline_denials_total{method="Stats",reason="quota"}'], 0)

    def test_a_quota_of_waiters(self):
        self.start({"rules": [{"identities": ["spiffe://prod/pay"],
                               "max_waiters": 1}]})
        pay, me = self.stubs["pay"], self.stubs["me"]
        leases = [me.Acquire(pb.AcquireRequest(target=self.here),
                             timeout=20).lease.lease_id for _ in range(10)]
        first = pay.Acquire.future(pb.AcquireRequest(target=self.here),
                                   timeout=60)
        waiters = lambda: me.Stats(pb.StatsRequest(),
                                   timeout=20).totals.waiters
        wait.until(lambda: waiters() == 1, "one waits", 30)
        self.assertEqual(self.call("pay", "Execute", self.here),
                         "RESOURCE_EXHAUSTED/QUOTA")
        self.assertEqual(waiters(), 1)
        for lease in leases:
            me.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)
        first.result()
        # The place in line is free again.
        self.assertEqual(self.call("pay", "Execute", self.here), "OK")

    def test_who_sees_whose_leases(self):
        server = self.start({"rules": [
            {"identities": ["dns:ops.test"], "all_leases": True}]})
        for name in ("pay", "web", "nobody", "me"):
            self.stubs[name].Acquire(pb.AcquireRequest(
                target=self.here, holder=pb.Holder(client_id=name)),
                timeout=20)
        for name in ("pay", "web", "nobody", "me"):
            self.assertEqual(self.seen(server, name), [name])
        self.assertEqual(self.seen(server, "ops"),
                         ["me", "nobody", "pay", "web"])

    def seen(self, server, name):
        return sorted(row.holder.client_id for row in server.stats_of(
            self.stubs[name], view=pb.STATS_VIEW_LEASES).leases)


class SecretsTest(harness.EndToEnd):

    def test_nothing_secret_is_ever_shown(self):
        upstream = self.start_nginx({"plain": None})
        target = "http://127.0.0.1:%d" % upstream.ports["plain"]
        server = self.start_hotlined({"log": {"level": "debug"}, "policy": {
            "rules": [{"identities": ["uid:*"], "rpcs": ["Stats"]}]}})
        secrets = ["bearer-s3cr3t-1", "query-s3cr3t-2", "body-s3cr3t-3"]
        lease = server.broker.Acquire(pb.AcquireRequest(
            target=target), timeout=20).lease.lease_id
        secrets += [lease, lease[-16:]]
        request = pb.ExecuteRequest(
            url=target + "/echo?token=" + secrets[1], method="POST",
            headers=[pb.Header(name="Authorization",
                               value=b"Bearer " + secrets[0].encode())],
            body=secrets[2].encode(), lease_id=lease)
        server.broker.Execute(request, timeout=20)
        # The same where it fails in every way there is.
        with grpc.insecure_channel("unix://" + server.socket) as channel:
            local = broker_pb2_grpc.BrokerStub(channel)
            for bad in (request,
                        pb.ExecuteRequest(url="http://127.0.0.1:1/?token="
                                          + secrets[1])):
                with self.assertRaises(grpc.RpcError):
                    local.Execute(bad, timeout=20)
            for call in (local.Release, local.Renew):
                with self.assertRaises(grpc.RpcError):
                    call((pb.ReleaseRequest if call == local.Release
                          else pb.RenewRequest)(lease_id=lease), timeout=20)
        with self.assertRaises(grpc.RpcError):
            server.broker.Execute(pb.ExecuteRequest(
                url="http://127.0.0.1:1/?token=" + secrets[1],
                headers=request.headers), timeout=20)
        shown = server.log() + server.page("/metrics")[2] + server.page("/")[2]
        for view in (pb.STATS_VIEW_SUMMARY, pb.STATS_VIEW_TARGETS,
                     pb.STATS_VIEW_CONNECTIONS, pb.STATS_VIEW_LEASES):
            shown += str(server.stats(view=view))
        self.assertIn("granted", shown)  # The debug log is on.
        for secret in secrets:
            self.assertNotIn(secret, shown)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)


if __name__ == "__main__":
    unittest.main()
