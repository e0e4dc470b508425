"""Faults that a start or a reload finds before a caller does.

--check-config once said yes to a file with which hotlined did not start: it had
not looked at the listener's certificates, at addresses, or at a socket's
directory. A reload showed what it was about to refuse to targets that came
meanwhile, and those kept it. And the warning that something waits for the next
start compared with the file before, so the next change of anything else
silenced it.
"""

import json
import os
import signal
import subprocess
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import wait


class StartTest(harness.EndToEnd):

    def run_hotlined(self, config, *words):
        path = os.path.join(self.directory, "checked.yaml")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(config, out)
        return wait.start(["server/hotlined", *words, "--config", path],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def both(self, config):
        """(exit code, standard error) of the check; of the start."""
        found = []
        for words in (("--check-config",), ()):
            process = self.run_hotlined(config, *words)
            _, errors = process.communicate(timeout=60)
            found.append((process.returncode, errors.decode()))
        return found

    def listen(self, **more):
        return {"listen": {"grpc": ["127.0.0.1:0"], "http": "127.0.0.1:0",
                           "admin": "127.0.0.1:0", **more},
                "upstream": {"ca_file": self.authority.cert}}

    def with_tls(self, cert, key, authority):
        return self.listen(grpc=["0.0.0.0:0"], tls={
            "cert_file": cert, "key_file": key, "client_ca_file": authority})

    def test_the_check_finds_what_the_start_finds(self):
        good = self.authority.issue("good")
        other = self.authority.issue("other")
        missing = os.path.join(self.directory, "missing.pem")
        garbage = os.path.join(self.directory, "garbage.pem")
        with open(garbage, "w", encoding="ascii") as out:
            out.write("-----BEGIN CERTIFICATE-----\nno\n")
        plain = os.path.join(self.directory, "plain")
        with open(plain, "w", encoding="ascii"):
            pass
        ca = self.authority.cert
        no_ca = self.listen()
        no_ca["upstream"]["ca_file"] = missing
        for what, config, named in [
                ("no certificate", self.with_tls(missing, good.key, ca),
                 missing),
                ("no key", self.with_tls(good.cert, missing, ca), missing),
                ("another's key", self.with_tls(good.cert, other.key, ca),
                 other.key),
                ("no certificate in it", self.with_tls(garbage, good.key, ca),
                 garbage),
                ("no authorities", self.with_tls(good.cert, good.key, missing),
                 missing),
                ("a directory", self.with_tls(good.cert, good.key,
                                              self.directory), self.directory),
                ("no directory for the socket",
                 self.listen(grpc=["unix:///no/such/directory/h.sock"]),
                 "/no/such/directory/h.sock"),
                ("a file where the socket goes",
                 self.listen(grpc=["unix://" + plain]), plain),
                ("a foreign address",
                 self.listen(grpc=["192.0.2.1:0"], insecure=True),
                 "192.0.2.1:0"),
                ("a foreign address for HTTP",
                 self.listen(http="192.0.2.1:0"), "192.0.2.1:0"),
                ("no directory for the control plane's socket",
                 self.listen(admin="unix:///no/such/directory/a.sock"),
                 "/no/such/directory/a.sock"),
                ("no authorities for upstreams", no_ca, missing)]:
            with self.subTest(what):
                for code, errors in self.both(config):
                    self.assertEqual(code, 1, errors)
                    self.assertIn(named, errors)

    def test_the_check_names_all_faults_at_once(self):
        config = self.with_tls("/no/such/cert.pem", "/no/such/key.pem",
                               self.authority.cert)
        config["listen"].update(grpc=["unix:///no/such/directory/h.sock"],
                                http="192.0.2.1:0")
        for _, errors in self.both(config):
            for named in ("/no/such/directory/h.sock", "192.0.2.1:0",
                          "/no/such/cert.pem"):
                self.assertIn(named, errors)

    def test_every_fault_has_its_key_and_place(self):
        """Of the file, of keys together and of the machine, in one run."""
        good = self.authority.issue("placed")
        other = self.authority.issue("stranger")
        path = os.path.join(self.directory, "placed.yaml")
        with open(path, "w", encoding="utf-8") as out:
            out.write("""listen:
  grpc: ["0.0.0.0:0", "unix:///no/such/directory/h.sock"]
  http: "192.0.2.1:0"
  admin: "unix:///no/such/directory/a.sock"
  tls:
    cert_file: %s
    key_file: %s
    client_ca_file: /no/such/ca.pem
pool:
  idle_timeout: 45
  lease_ttl: 2h
upstream:
  ca_file: "${file:/no/such/file}"
tls_profiles:
- name: theirs
  ca_file: /no/such/authorities.pem
targets:
- target: "https://${HOTLINE_NO_SUCH_VARIABLE}"
- target: "https://a.example"
  warm: 99
""" % (good.cert, other.key))
        places = [
            "2:23: listen.grpc[1]: cannot listen on", "3:9: listen.http: ",
            "4:10: listen.admin: ", "8:21: listen.tls.client_ca_file: ",
            "10:17: pool.idle_timeout: ", "11:14: pool.lease_ttl: ",
            "13:12: upstream.ca_file: /no/such/file cannot be read",
            "16:12: tls_profiles[0].ca_file: ",
            "18:11: targets[0].target: the environment variable "
            "HOTLINE_NO_SUCH_VARIABLE is not set",
            "20:9: targets[1].warm: "]
        for words in (["--check-config"], []):
            done = subprocess.run(["server/hotlined", *words, "--config", path],
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=60,
                                  check=False)
            self.assertEqual(done.returncode, 1)
            lines = done.stderr.decode().splitlines()
            self.assertEqual(len(lines), len(places), lines)
            for line, place in zip(lines, places):
                self.assertTrue(line.startswith("%s:%s" % (path, place)), line)

    def test_a_secret_from_a_file_is_not_printed(self):
        secret = os.path.join(self.directory, "secret")
        with open(secret, "w", encoding="ascii") as out:
            out.write("hunter2\n")
        for key in ("ca_file", "tls_profile"):
            config = self.listen()
            config["upstream"] = {key: "/no/such/${file:%s}" % secret}
            for code, errors in self.both(config):
                self.assertEqual(code, 1)
                self.assertIn("${file:%s}" % secret, errors)
                self.assertNotIn("hunter2", errors)
        config = self.listen()
        config["rewarm"] = {"file": "${file:%s}" % secret}
        process = self.run_hotlined(config, "--check-config")
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)
        self.assertIn("${file:%s}" % secret, output.decode())
        self.assertNotIn("hunter2", output.decode() + errors.decode())

    def test_a_probable_mistake_is_a_warning(self):
        expired = self.authority.issue("expired", days=-1)
        config = self.with_tls(expired.cert, expired.key, self.authority.cert)
        config["upstream"]["source_addresses"] = ["192.0.2.7"]
        config["egress"] = {"allow": ["10.0.0.1/8"]}
        config["rewarm"] = {"file": "/no/such/directory/warm.json"}
        process = self.run_hotlined(config, "--check-config")
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)
        self.assertIn(expired.cert + " has expired", errors.decode())
        self.assertIn("192.0.2.7 is not an address of this machine",
                      errors.decode())
        self.assertIn("egress.allow[0]: 10.0.0.1/8 has bits set beyond its "
                      "prefix: it means 10.0.0.0/8", errors.decode())
        self.assertIn("rewarm.file: nothing can be written to "
                      "/no/such/directory", errors.decode())

    def test_the_check_may_run_beside_the_process(self):
        server = self.start_hotlined()
        config = self.listen(grpc=[server.address, "unix://" + server.socket],
                             http=server.http, admin=server.admin)
        process = self.run_hotlined(config, "--check-config")
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors.decode()), (0, ""))
        self.assertEqual(server.health(), "SERVING")


class ReloadTest(harness.EndToEnd):

    def reload(self, server, line):
        """Takes the configuration; waits for one more such line in the log."""
        before = server.log().count(line)
        server.write_config()
        wait.until(lambda: server.log().count(line) > before, line, 30)

    def test_restart_needed_compares_with_what_was_started(self):
        server = self.start_hotlined()
        needed = "hotline_restart_needed"
        self.assertEqual(server.metrics()[needed], 0)
        server.config["metrics"] = {"max_targets": 7}
        self.reload(server, "configuration reloaded")
        self.assertEqual(server.metrics()[needed], 1)
        self.assertIn("metrics.max_targets", server.log())
        # Another change does not make that one forgotten.
        server.config["pool"] = {"max_connections": 50}
        self.reload(server, "take effect at the next start only")
        self.assertEqual(server.metrics()[needed], 1)
        # What is refused changes nothing.
        server.config["pool"] = {"max_connections": -1}
        self.reload(server, "configuration refused")
        self.assertEqual(server.metrics()[needed], 1)
        # Back at what was started.
        server.config["pool"] = {"max_connections": 50}
        del server.config["metrics"]
        self.reload(server, "configuration reloaded")
        self.assertEqual(server.metrics()[needed], 0)

    def test_a_start_that_would_fail_is_reported_at_the_reload(self):
        server = self.start_hotlined()
        server.config["listen"]["tls"] = {
            "cert_file": "/no/such/cert.pem", "key_file": "/no/such/key.pem",
            "client_ca_file": self.authority.cert}
        self.reload(server, "the next start would fail")
        self.assertIn("/no/such/cert.pem", server.log())

    def test_what_is_refused_is_seen_by_no_target(self):
        """Targets that come while a bad file is looked at, again and again."""
        bad = os.path.join(self.directory, "bad.pem")
        with open(bad, "w", encoding="ascii") as file:
            file.write("nothing")
        server = self.start_hotlined()
        server.config["upstream"]["ca_file"] = bad
        server.config["pool"] = {"max_connections_per_target": 3}
        server.write_config()
        for number in range(200):
            server.process.send_signal(signal.SIGHUP)
            self.assertEqual(self.limit_of_a_new_target(server, number), 10)
        wait.until(lambda: "configuration refused" in server.log(),
                   "it is refused")

    @staticmethod
    def limit_of_a_new_target(server, number):
        target = "http://new-%d.test" % number
        try:  # Refused at once; the target is known from then on.
            server.broker.Acquire(pb.AcquireRequest(
                target=target, reuse=pb.REUSE_REQUIRE_WARM), timeout=20)
        except grpc.RpcError:
            pass
        return server.stats(target=target).targets[0].max_connections


if __name__ == "__main__":
    unittest.main()
