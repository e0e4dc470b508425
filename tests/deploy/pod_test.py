"""The classic sidecar's pod from its manifest, played by podman; what podman
does not do of a kubelet's work (probes, preStop, the order of the end) the test
does, as the manifest says: pod_test.py KUBECTL."""

import os
import re
import sys
import tempfile
import time
import unittest
import urllib.request

import yaml

import containers
import manifests
import peers
import wait

KUBECTL = os.path.abspath(sys.argv[1])
# In a range that the overlay allows.
UPSTREAM = "10.11.12.13"


class PodTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="hl", dir="/tmp")
        cls.containers = containers.Containers(directory)
        cls.addClassCleanup(cls.containers.remove)
        cls.containers.build_images()

    def setUp(self):
        built = manifests.by_kind(
            manifests.build(KUBECTL, "overlays/sidecar-classic"))
        self.pod = built["Deployment"]["spec"]["template"]["spec"]
        self.manifest = {each["name"]: each for each in self.pod["containers"]}
        port = self.adapt()
        self.play([built["ConfigMap"], built["Deployment"]])
        self.broker, self.app = (
            "%s-pod-0-%s" % (built["Deployment"]["metadata"]["name"], name)
            for name in ("hotline", "app"))
        self.served = 0
        self.start_upstream(port)

    def adapt(self):
        """No ports on this machine, no restarts, and our upstream's URL."""
        port = 8080
        # podman would open it on this machine, and restart what we end.
        del self.manifest["hotline"]["ports"]
        self.pod["restartPolicy"] = "Never"
        # POST: what is sent twice or not at all shows in the count.
        self.manifest["app"]["args"] = [
            "--method", "POST", "--workers", "4", "--pause-ms", "5",
            "http://%s:%d/" % (UPSTREAM, port)]
        return port

    def play(self, objects):
        path = os.path.join(self.containers.directory, "pod.yaml")
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump_all(objects, file)
        self.addCleanup(self.containers.remove_pods)
        self.make_empty_dir()
        self.containers.podman("kube", "play", "--network", "none", path)

    def make_empty_dir(self):
        """As a kubelet makes it for a pod with a fsGroup; podman does not."""
        group = self.pod["securityContext"]["fsGroup"]
        self.containers.podman("volume", "create", "--opt",
                               "o=uid=0,gid=%d" % group, "hotline-socket")
        folder = self.containers.inspect("hotline-socket")["Mountpoint"]
        os.chmod(folder, 0o2777)

    def start_upstream(self, port):
        """Inside the pod's network, where nothing else is to be reached."""
        pid = self.containers.pid(self.broker)
        self.containers.command("nsenter", "--target", str(pid), "--net", "ip",
                                "address", "add", UPSTREAM + "/32", "dev", "lo")

        def answer(connection):
            while connection.read_request():
                connection.pause(0.02)  # Some calls are always in flight.
                self.served += 1
                if not connection.send(peers.ok()):
                    return

        upstream = containers.in_network_of(
            pid, lambda: peers.Peer(answer, host=UPSTREAM, port=port))
        self.addCleanup(upstream.stop)

    def exec(self, name, command, **options):
        return self.containers.podman("exec", name, *command, **options)

    def probe(self, kind):
        """Whether an exec probe of the broker passes, in its time."""
        probe = self.manifest["hotline"][kind]
        begin = time.monotonic()
        output = self.exec(self.broker, probe["exec"]["command"], code=None)
        # podman itself takes some of it on a busy machine.
        self.assertLess(time.monotonic() - begin, probe["timeoutSeconds"] + 5)
        return output == "SERVING\n"

    def get(self, path):
        """A page of the broker's HTTP listener, as from outside the pod."""
        def ask():
            with urllib.request.urlopen("http://%s:19464%s" % (UPSTREAM, path),
                                        timeout=10) as answer:
                return answer.status, answer.read().decode()
        return containers.in_network_of(self.containers.pid(self.broker), ask)

    def await_traffic(self, calls=50):
        before = self.served
        wait.until(lambda: self.served >= before + calls, "calls go through",
                   30)

    def status(self, name):
        with open("/proc/%d/status" % self.containers.pid(name),
                  encoding="ascii") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file
                        if ":\t" in line)

    def test_it_runs_confined_and_the_application_reaches_it(self):
        self.await_traffic()
        for name, user in ((self.broker, 65532), (self.app, 10001)):
            status = self.status(name)
            self.assertEqual(status["Uid"].split(), [str(user)] * 4)
            self.assertIn("65532", status["Groups"].split()
                          + status["Gid"].split())
            for capabilities in ("CapEff", "CapPrm", "CapBnd"):
                self.assertEqual(int(status[capabilities], 16), 0)
            self.assertEqual(status["NoNewPrivs"], "1")
            self.assertEqual(status["Seccomp"], "2")
            with open("/proc/%d/mountinfo" % self.containers.pid(name),
                      encoding="ascii") as mounts:
                (root,) = [line.split()[5] for line in mounts
                           if line.split()[4] == "/"]
            self.assertIn("ro", root.split(","))
        limit = self.manifest["hotline"]["resources"]["limits"]["memory"]
        self.assertEqual(
            self.containers.inspect(self.broker)["HostConfig"]["Memory"],
            int(limit.removesuffix("Mi")) << 20)

    def test_its_probes_pass_and_metrics_can_be_scraped(self):
        wait.until(lambda: self.probe("startupProbe"), "started", 30)
        self.assertTrue(self.probe("livenessProbe"))
        path = self.manifest["hotline"]["readinessProbe"]["httpGet"]["path"]
        self.assertEqual(self.get(path)[0], 200)
        self.await_traffic()
        page = self.get("/metrics")[1]
        executes = re.search(
            r'^hotline_executes_total\{target="http://%s:8080",result="ok"\}'
            r' (\d+)' % re.escape(UPSTREAM), page, re.M)
        self.assertGreater(int(executes.group(1)), 10)
        # Whose listener answers no more is not alive.
        self.containers.podman("kill", "--signal", "STOP", self.broker)
        self.assertFalse(self.probe("livenessProbe"))
        self.containers.podman("kill", "--signal", "CONT", self.broker)
        wait.until(lambda: self.probe("livenessProbe"), "alive again", 30)

    def test_it_ends_in_order_and_nothing_is_lost(self):
        self.await_traffic()
        begin = time.monotonic()
        # As a kubelet does it: preStop and the other's SIGTERM at once.
        hook = self.manifest["hotline"]["lifecycle"]["preStop"]["exec"]
        pre_stop = self.containers.start("exec", self.broker, *hook["command"])
        self.addCleanup(pre_stop.wait)
        self.containers.podman("kill", "--signal", "TERM", self.app)
        self.assertEqual(self.containers.exit_code(self.app, 15), 0)
        self.assertIsNone(pre_stop.poll())  # The broker outlives it.
        said = self.containers.podman("logs", self.app)
        calls, failed = re.search(r"stopped: (\d+) calls, (\d+) failed",
                                  said).groups()
        self.assertEqual((int(calls), int(failed)), (self.served, 0), said)
        # Nobody heard of the end before it came.
        self.assertTrue(self.probe("livenessProbe"))
        self.assertEqual(self.get("/readyz")[0], 200)

        self.assertEqual(pre_stop.wait(30), 0)
        self.containers.podman("kill", "--signal", "TERM", self.broker)
        self.assertEqual(self.containers.exit_code(self.broker), 0)
        log = self.containers.podman("logs", self.broker)
        self.assertIn('"message":"draining"', log)
        self.assertIn('"message":"stopped"', log)
        self.assertLess(time.monotonic() - begin,
                        self.pod["terminationGracePeriodSeconds"])

    def test_without_pre_stop_it_drains_what_runs(self):
        """Whoever ends both at once loses no call, either: those that run are
        finished, those that come are refused unsent, as is safe to repeat."""
        self.await_traffic()
        self.containers.podman("kill", "--signal", "TERM", self.broker)
        self.assertEqual(self.containers.exit_code(self.broker), 0)
        self.containers.podman("kill", "--signal", "TERM", self.app)
        self.containers.exit_code(self.app)
        said = self.containers.podman("logs", self.app)
        calls, failed = re.search(r"stopped: (\d+) calls, (\d+) failed",
                                  said).groups()
        self.assertEqual(int(calls) - int(failed), self.served, said)
        refused = re.findall(r"^(\w+|no broker): ", said, re.M)
        self.assertLessEqual(set(refused) - {"stopped"},
                             {"DRAINING", "no broker"})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
