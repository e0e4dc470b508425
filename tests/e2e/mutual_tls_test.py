"""Public listeners: mutual TLS and the caller's identity."""

import os
import subprocess
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import certs
import harness
import wait

Code = grpc.StatusCode


class MutualTlsTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        # What the broker reads: behind a link, as Kubernetes does it.
        self.mounted = os.path.join(self.directory, "mounted")
        self.rotate(0)
        self.upstream = self.start_nginx()
        self.target = "https://localhost:%d" % self.upstream.ports["good"]

    def rotate(self, number):
        """Puts a fresh certificate in place, key and all in one step."""
        fresh = os.path.join(self.directory, "v%d" % number)
        os.mkdir(fresh)
        issued = self.authority.issue("server%d" % number)
        os.rename(issued.cert, os.path.join(fresh, "tls.crt"))
        os.rename(issued.key, os.path.join(fresh, "tls.key"))
        os.symlink(fresh, self.mounted + ".new")
        os.replace(self.mounted + ".new", self.mounted)

    def tls(self):
        return {"cert_file": os.path.join(self.mounted, "tls.crt"),
                "key_file": os.path.join(self.mounted, "tls.key"),
                "client_ca_file": self.authority.cert}

    def start(self, **config):
        listen = {"grpc": ["0.0.0.0:0"], "tls": self.tls()}
        listen.update(config.pop("listen", {}))
        return self.start_hotlined({"listen": listen, **config})

    def stub(self, server, certificate, root=None):
        """A stub over a connection of its own, as `certificate`'s owner."""
        def read(path):
            with open(path, "rb") as file:
                return file.read()
        credentials = grpc.ssl_channel_credentials(
            read(root or self.authority.cert),
            *([read(certificate.key), read(certificate.cert)]
              if certificate else []))
        channel = grpc.secure_channel(
            "127.0.0.1:" + server.address.rsplit(":", 1)[1], credentials,
            options=[("grpc.use_local_subchannel_pool", 1),
                     ("grpc.enable_retries", 0)])
        self.addCleanup(channel.close)
        return broker_pb2_grpc.BrokerStub(channel)

    def caller(self, name, san):
        return self.authority.issue(name, san=san)

    def test_a_caller_without_a_trusted_certificate_is_refused(self):
        server = self.start()
        good = self.stub(server, self.caller("c", "DNS:c.test"))
        self.assertEqual(good.Execute(
            pb.ExecuteRequest(url=self.target + "/"), timeout=20).status, 200)
        stranger = certs.Authority(self.directory, "stranger")
        for name, certificate in [
                ("none", None),
                ("another authority's", stranger.issue("x", san="DNS:c.test")),
                ("expired", self.authority.issue("old", san="DNS:c.test",
                                                 days=-1))]:
            with self.subTest(name):
                with self.assertRaises(grpc.RpcError) as caught:
                    self.stub(server, certificate).Stats(pb.StatsRequest(),
                                                         timeout=5)
                self.assertEqual(caught.exception.code(), Code.UNAVAILABLE)
        # Nor does who speaks no TLS at all.
        with self.assertRaises(grpc.RpcError):
            server.broker.Stats(pb.StatsRequest(), timeout=5)
        self.assertEqual(len(server.stats_of(good).targets), 1)

    def test_old_tls_is_refused(self):
        server = self.start()
        port = server.address.rsplit(":", 1)[1]
        caller = self.caller("c", "DNS:c.test")
        for version, works in (("-tls1_1", False), ("-tls1_2", True),
                               ("-tls1_3", True)):
            done = subprocess.run(
                ["openssl", "s_client", "-connect", "127.0.0.1:" + port,
                 version, "-cipher", "DEFAULT@SECLEVEL=0", "-alpn", "h2",
                 "-cert", caller.cert, "-key", caller.key],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=30, check=False)
            self.assertEqual(b"ALPN protocol: h2" in done.stdout, works,
                             (version, done.stdout[-600:]))

    def test_a_lease_is_for_the_identity_that_acquired_it(self):
        server = self.start()
        callers = {
            "spiffe": self.caller("a", "URI:spiffe://prod/ns/a,DNS:a.test"),
            "other spiffe": self.caller("b", "URI:spiffe://prod/ns/b,"
                                             "DNS:a.test"),
            "dns": self.caller("d", "DNS:d.test"),
            "common name": self.caller("e", "IP:127.0.0.1"),
        }
        stubs = {name: self.stub(server, certificate)
                 for name, certificate in callers.items()}
        leases = {}
        for name, stub in stubs.items():
            leases[name] = stub.Acquire(pb.AcquireRequest(
                target=self.target, request_id="one",
                holder=pb.Holder(client_id=name)), timeout=20).lease.lease_id
        # The same request_id of four callers is four requests.
        self.assertEqual(len(set(leases.values())), 4)
        for owner, lease in leases.items():
            for name, stub in stubs.items():
                seen = [row.holder.client_id for row in server.stats_of(
                    stub, view=pb.STATS_VIEW_LEASES).leases]
                self.assertEqual(seen, [name])
                if name == owner:
                    continue
                for call in (
                        lambda s=stub, l=lease: s.Execute(pb.ExecuteRequest(
                            url=self.target + "/", lease_id=l), timeout=10),
                        lambda s=stub, l=lease: s.Renew(pb.RenewRequest(
                            lease_id=l), timeout=10),
                        lambda s=stub, l=lease: s.Release(pb.ReleaseRequest(
                            lease_id=l), timeout=10)):
                    with self.assertRaises(grpc.RpcError) as caught:
                        call()
                    self.assert_code(caught.exception, Code.PERMISSION_DENIED,
                                     "LEASE_NOT_YOURS")
        # None of that has hurt them; and it is the certificate that counts, not
        # the connection.
        for name, lease in leases.items():
            again = self.stub(server, callers[name])
            self.assertEqual(again.Execute(pb.ExecuteRequest(
                url=self.target + "/", lease_id=lease), timeout=10).status, 200)
            self.assertFalse(again.Release(pb.ReleaseRequest(
                lease_id=lease), timeout=10).already_released)

    def test_certificates_are_exchanged_under_load_without_a_failed_call(self):
        server = self.start()
        caller = self.caller("c", "DNS:c.test")
        failures, calls, stop = [], [0, 0], threading.Event()

        def go_on(index, fresh_connections):
            stub = self.stub(server, caller)
            while not stop.is_set():
                if fresh_connections:
                    stub = self.stub(server, caller)
                try:
                    stub.Execute(pb.ExecuteRequest(url=self.target + "/"),
                                 timeout=20)
                    calls[index] += 1
                except grpc.RpcError as error:
                    failures.append(str(error))
        threads = [threading.Thread(target=go_on, args=(0, False)),
                   threading.Thread(target=go_on, args=(1, True))]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 21):
                self.rotate(number)
                wait.until(lambda n=number: self.served_name(server)
                           == "server%d" % n, "certificate %d" % number, 30)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(min(calls), 20)
        self.assertEqual(server.log().count("certificates reloaded"), 20)

    def served_name(self, server):
        """The common name of the certificate a new connection gets."""
        done = subprocess.run(
            ["openssl", "s_client", "-connect",
             "127.0.0.1:" + server.address.rsplit(":", 1)[1]],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=30, check=False)
        text = done.stdout.decode(errors="replace")
        marker = "subject=CN = "
        at = text.find(marker)
        return text[at + len(marker):].split("\n")[0] if at >= 0 else ""

    def test_what_does_not_fit_together_is_not_taken(self):
        server = self.start()
        good = self.caller("c", "DNS:c.test")
        key = os.path.join(self.mounted, "tls.key")
        os.rename(key, key + ".away")
        wait.until(lambda: "certificates refused" in server.log(), "refused",
                   30)
        with open(key, "w", encoding="ascii") as out, \
                open(good.key, encoding="ascii") as other:
            out.write(other.read())  # A key, but of another certificate.
        self.assertEqual(self.served_name(server), "server0")
        self.assertEqual(self.stub(server, good).Execute(pb.ExecuteRequest(
            url=self.target + "/"), timeout=20).status, 200)
        os.rename(key + ".away", key)
        self.rotate(1)
        wait.until(lambda: self.served_name(server) == "server1", "recovered",
                   30)

    def test_the_command_line_speaks_it(self):
        server = self.start()
        caller = self.caller("c", "DNS:c.test")
        server.address = "127.0.0.1:" + server.address.rsplit(":", 1)[1]
        out, _ = self.hotline(
            server, "get", self.target + "/", "--tls-ca", self.authority.cert,
            "--tls-cert", caller.cert, "--tls-key", caller.key)
        self.assertIn("hello", out.lower())
        self.hotline(server, "get", self.target + "/", "--tls-ca",
                     self.authority.cert, "-m", "2", code=3)
        self.hotline(server, "get", self.target + "/", "--tls-ca", "/nothing",
                     code=2)


if __name__ == "__main__":
    unittest.main()
