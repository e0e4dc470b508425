"""Incidents under load, and a real Prometheus: each alert of deploy/prometheus
fires while its cause lasts, and is resolved once that is mended.

The rules are those of the file with shorter times, for a test cannot wait for
an hour: each `for` is a second, rates are of ten seconds, and other ranges of a
minute. What they say over their real times is shown by rules_test.yaml.
"""

import os
import re
import signal
import threading
import unittest

import yaml
from hotline.v1 import broker_pb2 as pb

import callers
import dns
import harness
import hotlined
import peers
import threads
import wait
from prometheus_server import RULES, Prometheus

HELD = 60  # Descriptors, of LIMIT.
LIMIT = 100


def shortened(rules):
    rules = rules.replace("[5m]", "[10s]").replace("[15m]", "[60s]")
    return re.sub(r"\bfor: \d+[mh]", "for: 1s", rules)


class AlertsTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.broken = threading.Event()  # Set while the incidents last.
        self.broken.set()
        self.upstream = self.start_nginx({
            "good": self.authority.issue("good", days=25),
            "short": self.authority.issue("short", days=2)})
        self.good = "https://127.0.0.1:%d" % self.upstream.ports["good"]
        self.short = "https://127.0.0.1:%d" % self.upstream.ports["short"]
        self.refusing = wait.free_port()

    def start_apart(self, name, config=None, **options):
        """A hotlined in a directory of its own."""
        whole, self.directory = self.directory, os.path.join(self.directory,
                                                             name)
        os.mkdir(self.directory)
        try:
            return self.start_hotlined(config, **options)
        finally:
            self.directory = whole

    def peer(self, script, **options):
        peer = peers.Peer(script, **options)
        self.addCleanup(peer.stop)
        return peer

    def load(self, url, calls=1, patience=20):
        """Calls of url() until the test ends; many of them fail. `patience`:
        of callers while the incidents last."""
        load = callers.Load(calls, lambda _: self.main.broker.Execute(
            pb.ExecuteRequest(url=url()),
            timeout=patience if self.broken.is_set() else 20))
        self.addCleanup(load.stop)

    # Upstreams.

    def closes(self, connection):
        """A script: ends each connection after its first answer."""
        while connection.read_request() and connection.send(peers.ok()):
            if self.broken.is_set():
                return

    def slow(self, connection):
        while connection.read_request():
            if self.broken.is_set():
                connection.pause(1.2)
            if not connection.send(peers.ok()):
                return

    def leak(self, target):
        """Leases that are not released, and expire."""
        def work(_):
            broken = self.broken.is_set()
            lease = self.main.broker.Acquire(pb.AcquireRequest(
                target=target, lease_ttl=hotlined.seconds(
                    0.2 if broken else 20)), timeout=20).lease.lease_id
            if not broken:
                self.main.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                         timeout=20)
        load = callers.Load(1, work)
        self.addCleanup(load.stop)

    def start_loads(self):
        self.load(lambda: "http://127.0.0.1:%d/" % self.refusing)
        self.load(lambda: self.good + ("/500" if self.broken.is_set() else "/"))
        self.load(lambda: self.short + "/")
        closing, slow = self.peer(self.closes), self.peer(self.slow)
        self.load(lambda: closing.target + "/")
        self.load(lambda: slow.target + "/", calls=3)
        self.load(lambda: slow.target + "/", patience=0.3)
        fine = self.peer(peers.always())
        self.load(lambda: "http://fails.test:%d/" % fine.port)
        self.leak(fine.target)

    # The processes.

    def start_processes(self):
        forwarder = dns.Forwarder(
            lambda name: None if self.broken.is_set() else "127.0.0.1")
        self.addCleanup(forwarder.stop)
        names = dns.Dnsmasq(self.directory, {"fails.test": forwarder.port})
        self.addCleanup(names.stop)
        self.main = self.start_apart("main", {
            "upstream": {"dns_servers": [names.address]},
            "pool": {"breaker_failures": 0, "max_connections_per_target": 1}})
        self.tight = self.start_apart(
            "tight", {"pool": {"max_connections_per_target": HELD}},
            before="ulimit -n %d" % LIMIT)
        self.stopped = self.start_apart("stopped")
        # It has to be found there when it has been started again.
        self.tight.config["listen"]["http"] = self.tight.http
        self.tight.write_config()

    def start_prometheus(self):
        path = os.path.join(self.directory, "rules.yaml")
        with open(RULES, encoding="utf-8") as file:
            rules = shortened(file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(rules)
        self.alerts = {rule["alert"] for group in
                       yaml.safe_load(rules)["groups"]
                       for rule in group["rules"] if "alert" in rule}
        self.prometheus = Prometheus(
            self.directory, {"main": self.main.http, "tight": self.tight.http,
                             "stopped": self.stopped.http}, path)
        self.addCleanup(self.prometheus.stop)

    def restart(self):
        """More often than a supervisor should have to."""
        expression = 'changes(process_start_time_seconds{instance="tight"}[5m])'
        for times in range(4):
            wait.until(lambda n=times: self.prometheus.numbers(expression)
                       == [n], "the start is scraped", 60)
            if times < 3:
                self.tight.stop()
                self.tight.start_again()

    def refuse_configuration(self):
        self.main.config["metrics"] = {"max_targets": 7}
        self.main.write_config()
        self.hotline(self.main, "config", "reload")
        self.main.config["pool"]["max_connections"] = -1
        self.main.write_config()
        self.hotline(self.main, "config", "reload", code=2)

    def mend(self):
        self.broken.clear()
        self.peer(peers.always(), port=self.refusing)
        self.authority.issue("longer", days=25)
        for kind in (".key", ".pem"):
            os.replace(os.path.join(self.directory, "longer" + kind),
                       os.path.join(self.directory, "short" + kind))
        self.upstream.reload()
        del self.main.config["metrics"], self.main.config["pool"][
            "max_connections"]
        self.main.write_config()
        self.hotline(self.main, "config", "reload")
        self.hotline(self.main, "reconnect", self.short)
        self.hotline(self.tight, "drain", self.good)
        self.stopped.process.send_signal(signal.SIGCONT)

    def await_firing(self, wanted):
        """These alerts fire, and no others."""
        firing = set()

        def as_wanted():
            firing.clear()
            firing.update(alert["labels"]["alertname"] for alert in
                          self.prometheus.get("alerts")["alerts"]
                          if alert["state"] == "firing")
            return firing == wanted
        try:
            wait.until(as_wanted, "alerts", 150)
        except AssertionError:
            self.fail("do not fire: %s; fire: %s" % (
                sorted(wanted - firing), sorted(firing - wanted)))

    def test_every_alert_fires_and_is_resolved(self):
        self.start_processes()
        self.start_prometheus()
        self.restart()
        self.start_loads()
        self.refuse_configuration()
        self.hotline(self.tight, "--max-time", "55s", "warm", "-n", str(HELD),
                     "--wait", "50s", self.good)
        self.stopped.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.stopped.process.send_signal, signal.SIGCONT)
        with threads.held(threads.named(self.tight.process, "hotline-loop")):
            self.await_firing(self.alerts)
        self.mend()
        self.await_firing(set())


if __name__ == "__main__":
    unittest.main()
