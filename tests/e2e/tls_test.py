"""TLS profiles, as a real nginx sees them."""

import os
import socket
import subprocess
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import callers
import certs
import harness
import wait

# Of who shows a certificate, who it is.
_WHO = """
    ssl_verify_client %s;
    ssl_client_certificate %s;
    location = /who { return 200 "$ssl_client_verify $ssl_client_s_dn\\n"; }
"""


def replace(path, source):
    """Puts a copy of `source` in the place of `path`, at once."""
    with open(source, "rb") as file:
        content = file.read()
    with open(path + ".new", "wb") as out:
        out.write(content)
    os.replace(path + ".new", path)


class TlsTest(harness.EndToEnd):

    def start(self, extra="", **config):
        self.nginx, self.server, self.target = self.start_both(
            config, extra=extra)

    def execute(self, path="/", **options):
        return self.server.broker.Execute(
            pb.ExecuteRequest(url=self.target + path,
                              options=pb.ConnectionOptions(**options)),
            timeout=30)

    def fresh(self, **options):
        """The ConnectionInfo of a connection made now; it is closed then."""
        lease = self.server.broker.Acquire(
            pb.AcquireRequest(target=self.target, reuse=pb.REUSE_FORCE_NEW,
                              options=pb.ConnectionOptions(**options)),
            timeout=30)
        # By the answer, what the upstream sends of its own has been read.
        self.server.broker.Execute(
            pb.ExecuteRequest(url=self.target + "/",
                              lease_id=lease.lease.lease_id), timeout=30)
        self.server.broker.Release(pb.ReleaseRequest(
            lease_id=lease.lease.lease_id, outcome=pb.OUTCOME_DISCARD),
                                   timeout=30)
        return lease.connection

    def failure(self, path="/", **options):
        with self.assertRaises(grpc.RpcError) as caught:
            self.execute(path, **options)
        return caught.exception

    def handshakes(self, resumed):
        return self.server.metrics()[
            'hotline_tls_handshakes_total{target="%s",resumed="%s"}' % (
                self.target, resumed)]


class ProfileTest(TlsTest):

    def test_a_set_is_taken_in_turn_and_upstream_sees_it(self):
        self.start()
        self.server.config["tls_profiles"] = [
            {"name": "old", "max_version": "1.2"}]
        self.server.config["targets"] = [
            {"target": self.target, "tls_profiles": ["old", "modern"]}]
        self.server.write_config()
        wait.until(lambda: "configuration reloaded" in self.server.log(),
                   "the reload", 30)
        infos = [self.fresh() for _ in range(6)]
        self.assertEqual([info.tls_profile for info in infos],
                         ["old", "modern"] * 3)
        seen = [request.tls for request in self.nginx.requests("good")]
        self.assertEqual(seen, ["TLSv1.2", "TLSv1.3"] * 3)

    def test_the_caller_may_name_one_and_none_that_is_not_there(self):
        self.start(tls_profiles=[{"name": "old", "max_version": "1.2"}])
        for name, version in (("old", "TLSv1.2"), ("modern", "TLSv1.3"),
                              ("chromium", "TLSv1.3"),
                              ("compatible", "TLSv1.3")):
            info = self.execute(tls_profile=name).receipt.connection
            self.assertEqual((info.tls_profile, info.tls_version),
                             (name, version))
            # Who names it shares connections with who names it, too.
            self.assertTrue(
                self.execute(tls_profile=name).receipt.connection.reused)
        error = self.failure(tls_profile="nowhere")
        self.assert_code(error, grpc.StatusCode.INVALID_ARGUMENT, "BAD_OPTION")
        out, _ = self.hotline(self.server, "get", "--tls-profile", "modern",
                              self.target + "/echo")
        self.assertEqual(out, "GET \n")

    def test_an_upstream_of_another_version_is_refused(self):
        self.start(extra="ssl_protocols TLSv1.2;",
                   execute={"max_attempts": 1})
        self.assert_code(self.failure(tls_profile="modern"),
                         grpc.StatusCode.UNAVAILABLE, "TLS_FAILED")
        self.assertEqual(self.execute().receipt.connection.tls_version,
                         "TLSv1.2")

    def test_an_upstream_of_the_newest_version_only(self):
        self.start(extra="ssl_protocols TLSv1.3;",
                   execute={"max_attempts": 1},
                   tls_profiles=[{"name": "old", "max_version": "1.2"}])
        self.assert_code(self.failure(tls_profile="old"),
                         grpc.StatusCode.UNAVAILABLE, "TLS_FAILED")
        self.assertEqual(
            self.execute(tls_profile="modern").receipt.connection.tls_version,
            "TLSv1.3")

    def test_pins_are_held_against_the_chain(self):
        self.start()
        right = subprocess.run(
            "openssl x509 -in %s -noout -pubkey | openssl pkey -pubin"
            " -outform DER | openssl dgst -sha256 -binary | base64"
            % self.authority.cert, shell=True, check=True,
            stdout=subprocess.PIPE).stdout.decode().strip()
        self.server.config["tls_profiles"] = [
            {"name": "right", "pins": ["sha256/" + right]},
            {"name": "wrong", "pins": ["sha256/" + "A" * 43 + "="]}]
        self.server.write_config()
        wait.until(lambda: "configuration reloaded" in self.server.log(),
                   "the reload", 30)
        self.assertEqual(self.execute(tls_profile="right").status, 200)
        self.assert_code(self.failure(tls_profile="wrong"),
                         grpc.StatusCode.FAILED_PRECONDITION,
                         "TLS_VERIFY_FAILED")

    def test_faults_are_reported_with_their_lines_before_anything_starts(self):
        path = os.path.join(self.directory, "bad.yaml")
        with open(path, "w", encoding="ascii") as out:
            out.write("""tls_profiles:
- name: a
  ciphers: ["ECDHE-RSA-AES128-GCM-SHA256", "NONE-SUCH"]
- name: b
  groups: ["P-255"]
- name: c
  ca_file: /no/such/ca.pem
- name: d
  client_certificate:
    cert_file: %s
    key_file: /no/such/key.pem
targets:
- target: "https://a.example"
  tls_profiles: []
""" % self.authority.cert)
        done = subprocess.run(
            ["server/hotlined", "--check-config", "--config", path],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        faults = done.stderr.decode().splitlines()
        for place, key in (
                ("3:44", "tls_profiles[0].ciphers[1]"),
                ("5:12", "tls_profiles[1].groups[0]"),
                ("7:12", "tls_profiles[2].ca_file"),
                ("11:15", "tls_profiles[3].client_certificate.key_file"),
                ("14:3", "targets[0].tls_profiles")):
            start = "%s:%s: %s: " % (path, place, key)
            self.assertTrue(any(fault.startswith(start) for fault in faults),
                            (start, faults))
        self.assertEqual(len(faults), 5, faults)


class ResumptionTest(TlsTest):

    def test_both_sides_count_the_same(self):
        self.start()
        self.assertEqual(self.fresh().tls_resumed, False)
        for _ in range(9):
            self.assertEqual(self.fresh().tls_resumed, True)
        self.assertEqual((self.handshakes("false"), self.handshakes("true")),
                         (1, 9))
        seen = [request.resumed for request in self.nginx.requests("good")]
        self.assertEqual(seen, ["."] + ["r"] * 9)

    def test_no_session_crosses_from_one_profile_to_another(self):
        self.start(tls_profiles=[{"name": "mine"}, {"name": "yours"}])
        for name in ("mine", "yours", "mine", "yours"):
            self.fresh(tls_profile=name)
        seen = [request.resumed for request in self.nginx.requests("good")]
        self.assertEqual(seen, [".", ".", "r", "r"])


class ClientCertificateTest(TlsTest):

    def setUp(self):
        super().setUp()
        self.identity = certs.Certificate(
            os.path.join(self.directory, "client.pem"),
            os.path.join(self.directory, "client.key"))
        self.show("alice")
        self.profile = {"name": "me", "client_certificate": {
            "cert_file": self.identity.cert, "key_file": self.identity.key}}

    def show(self, name):
        issued = self.authority.issue(name)
        replace(self.identity.cert, issued.cert)
        replace(self.identity.key, issued.key)

    def who(self):
        return self.execute("/who", tls_profile="me").body.decode().strip()

    def test_an_upstream_knows_its_client_by_the_certificate(self):
        self.start(extra=_WHO % ("on", self.authority.cert),
                   tls_profiles=[self.profile])
        self.assertEqual(self.who(), "SUCCESS CN=alice")
        # nginx lets the handshake pass, and refuses the request.
        refused = self.execute("/who")
        self.assertEqual(refused.status, 400)
        self.assertIn(b"No required SSL certificate", refused.body)

    def test_new_files_are_used_and_bad_ones_are_not(self):
        self.start(extra=_WHO % ("on", self.authority.cert),
                   tls_profiles=[self.profile],
                   pool={"max_lifetime": "1s", "idle_timeout": "0.2s"})
        self.assertEqual(self.who(), "SUCCESS CN=alice")
        current = lambda: self.server.metrics()["hotline_tls_files_current"]
        self.assertEqual(current(), 1)
        replace(self.identity.key, self.authority.cert)
        wait.until(lambda: current() == 0, "the bad file is noticed", 30)
        self.assertIn("the previous ones stay in use", self.server.log())
        self.assertEqual(self.who(), "SUCCESS CN=alice")
        self.show("bob")
        wait.until(lambda: current() == 1, "the good ones are", 30)
        wait.until(lambda: self.who() == "SUCCESS CN=bob",
                   "a new connection shows them", 30)

    def test_no_call_fails_while_files_are_swapped(self):
        self.start(extra=_WHO % ("on", self.authority.cert),
                   tls_profiles=[self.profile],
                   pool={"max_lifetime": "1s"})
        load = callers.Load(4, lambda number: self.who())
        names = ["alice", "bob", "carol", "dave"]
        try:
            for name in names[1:]:
                self.show(name)
                wait.until(lambda n=name: any(
                    outcome == "SUCCESS CN=" + n
                    for outcome in list(load.outcomes.values())),
                           "calls show " + name, 30)
        finally:
            outcomes = load.stop()
        self.assertEqual(set(outcomes.values()),
                         {"SUCCESS CN=" + name for name in names})


class FirstBytes:
    """Takes one connection, keeps what it says first, and hangs up."""

    def __init__(self):
        self.bytes = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(30)
            record = connection.recv(65536)
            while len(record) < 5 + int.from_bytes(record[3:5], "big"):
                record += connection.recv(65536)
            self.bytes = record

    def stop(self):
        self._thread.join()
        self._listener.close()


class FingerprintTest(TlsTest):
    """What tshark makes of each profile's first message."""

    def hello_of(self, profile):
        listener = FirstBytes()
        # A target of its own each time: nothing is known of it.
        self.target = "https://localhost:%d" % listener.port
        try:
            self.assert_code(self.failure(tls_profile=profile),
                             grpc.StatusCode.UNAVAILABLE, "TLS_FAILED")
        finally:
            listener.stop()
        return listener.bytes

    def dissect(self, hellos):
        """(JA3, JA3 with its extensions sorted) of each."""
        dump = os.path.join(self.directory, "hellos.txt")
        with open(dump, "w", encoding="ascii") as out:
            for hello in hellos:
                for at in range(0, len(hello), 16):
                    out.write("%06x %s\n" % (at, hello[at:at + 16].hex(" ")))
                out.write("\n")
        capture = os.path.join(self.directory, "hellos.pcap")
        subprocess.run(["text2pcap", "-q", "-T", "40000,443", dump, capture],
                       check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        done = subprocess.run(
            ["tshark", "-r", capture, "-o", "tcp.desegment_tcp_streams:FALSE",
             "-o", "tcp.analyze_sequence_numbers:FALSE", "-Y",
             "tls.handshake.type == 1", "-T", "fields", "-e",
             "tls.handshake.ja3_full"], check=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, HOME=self.directory))
        found = done.stdout.decode().split()
        self.assertEqual(len(found), len(hellos))
        result = []
        for text in found:
            parts = text.split(",")
            # Padding comes and goes with the length of the rest.
            parts[2] = "-".join(sorted(set(parts[2].split("-")) - {"21"}))
            result.append((text, ",".join(parts)))
        return result

    def test_profiles_differ_from_each_other_and_not_from_themselves(self):
        self.server = self.start_hotlined({"execute": {"max_attempts": 1}})
        names = ["default", "modern", "compatible", "chromium"]
        hellos = [self.hello_of(name) for name in names for _ in range(4)]
        prints = self.dissect(hellos)
        sorted_prints = set()
        for i, name in enumerate(names):
            mine = prints[4 * i:4 * i + 4]
            self.assertEqual(len({tidy for _, tidy in mine}), 1, (name, mine))
            # Only one of them takes its extensions in another order each time.
            raw = len({text for text, _ in mine})
            self.assertEqual(raw > 1, name == "chromium", (name, mine))
            sorted_prints.add(mine[0][1])
        self.assertEqual(len(sorted_prints), 4, sorted_prints)


if __name__ == "__main__":
    unittest.main()
