"""What the manifests reserve, against what a broker takes.

memory_test.py KUBECTL: prints what docs/deployment.md says in figures."""

import os
import sys
import unittest

from hotline.v1 import broker_pb2 as pb

import callers
import harness
import manifests

KUBECTL = os.path.abspath(sys.argv[1])
MEBIBYTE = 1 << 20


def resident(process, field="VmRSS"):
    """Bytes, the programs' files included; VmHWM is the most so far."""
    with open("/proc/%d/status" % process.pid, encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) << 10
    raise AssertionError(field)


class MemoryTest(harness.EndToEnd):

    def limits(self, overlay, kind, group):
        """(request, limit) of the broker's container, in bytes."""
        built = manifests.by_kind(
            manifests.build(KUBECTL, "overlays/" + overlay))
        pod = built[kind]["spec"]["template"]["spec"]
        (broker,) = [each for each in pod[group] if each["name"] == "hotline"]
        return tuple(int(broker["resources"][name]["memory"].removesuffix("Mi"))
                     * MEBIBYTE for name in ("requests", "limits"))

    def start(self, connections):
        """A broker with that many TLS connections, all lent once."""
        upstream, server, target = self.start_both({
            "pool": {"max_connections": connections,
                     "max_connections_per_target": connections,
                     "max_dials_per_target": 64, "idle_timeout": "300s"},
            "upstream": {"loops": 1}})
        self.tell("idle", server)
        calls = [server.broker.Acquire.future(
            pb.AcquireRequest(target=target), timeout=60)
                 for _ in range(connections)]
        for lease in [call.result().lease.lease_id for call in calls]:
            server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                  timeout=30)
        self.assertEqual(upstream.open_connections(), connections)
        self.tell("%d connections" % connections, server)
        return server, target

    @staticmethod
    def tell(what, server):
        print("%-40s %5.1f MiB" % (what, resident(server.process) / MEBIBYTE),
              flush=True)

    def execute(self, server, at_once, total, **fields):
        for call in callers.run(at_once, total, lambda _: server.broker.Execute
                                .future(pb.ExecuteRequest(**fields),
                                        timeout=60)):
            self.assertEqual(call.result().status, 200)

    def test_a_sidecar_keeps_within_its_request_and_its_limit(self):
        request, limit = self.limits("sidecar", "Deployment", "initContainers")
        server, target = self.start(100)
        self.execute(server, 128, 10000, url=target + "/")
        self.tell("128 small calls at once", server)
        self.assertLess(resident(server.process, "VmHWM"), request)
        self.execute(server, 16, 160, url=target + "/echo", method="POST",
                     body=b"x" * MEBIBYTE)
        self.tell("16 calls with 1 MiB at once", server)
        self.assertLess(resident(server.process, "VmHWM"), limit)

    def test_a_nodes_broker_keeps_within_ten_times_as_much(self):
        request, limit = self.limits("daemonset", "DaemonSet", "containers")
        server, target = self.start(1000)
        self.execute(server, 256, 20000, url=target + "/")
        self.tell("256 small calls at once", server)
        self.assertLess(resident(server.process, "VmHWM"), request)
        self.execute(server, 32, 320, url=target + "/echo", method="POST",
                     body=b"x" * MEBIBYTE)
        self.tell("32 calls with 1 MiB at once", server)
        self.assertLess(resident(server.process, "VmHWM"), limit)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
