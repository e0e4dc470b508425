"""Runs of h2load against the systems of a comparison, in alternation."""

import re
import statistics
import subprocess

import peers

EXECUTE = "/hotline.v1.Broker/Execute"
BODY_BYTES = 100


class Load:
    """One run of h2load, in which every answer has the upstream's body."""

    def __init__(self, port, path, requests, clients, streams, folder,
                 data=None):
        log = folder / "requests.log"
        log.unlink(missing_ok=True)
        command = ["h2load", "-n", str(requests), "-c", str(clients), "-m",
                   str(streams), "-t", "1", f"--log-file={log}"]
        if data is not None:
            command += ["-d", str(data), "-H", "content-type: application/grpc",
                        "-H", "te: trailers"]
        command.append(f"http://127.0.0.1:{port}{path}")
        out = subprocess.run(command, check=True, capture_output=True,
                             text=True, timeout=120).stdout
        done = re.search(r"finished in ([\d.]+)(ms|s|us), ([\d.]+) req/s", out)
        counts = re.search(r"(\d+) succeeded, (\d+) failed", out)
        # An error of gRPC is HTTP's 200 as well, but without a body.
        body = int(re.search(r"headers \(.*\), .*\((\d+)\) data", out)[1])
        if (not done or int(counts[1]) != requests
                or body < requests * BODY_BYTES):
            raise RuntimeError("h2load: " + out)
        self.rate = float(done[3])
        times = sorted(int(line.split("\t")[2]) for line in open(log))
        self.p50_us = times[len(times) // 2]
        self.p99_us = times[len(times) * 99 // 100]


class System:
    """One of those compared: where its load goes, and whose CPU it uses."""

    def __init__(self, name, process, port, path=EXECUTE, data=None,
                 http_port=None):
        self.name, self.process, self.port = name, process, port
        self.path, self.data, self.http_port = path, data, http_port
        self.rows = {}

    def answered(self):
        """Calls that hotlined has answered with success."""
        return peers.metric(self.http_port, "hotline_executes_total",
                            'result="ok"') or 0

    def run(self, shape, requests, clients, streams, folder):
        """A run with an unanswered call is an error, not a figure."""
        if self.http_port:
            answered = self.answered()
        before = peers.cpu_seconds(self.process)
        load = Load(self.port, self.path, requests, clients, streams, folder,
                    self.data)
        used = peers.cpu_seconds(self.process) - before
        load.cpu_us = used / requests * 1e6
        if self.http_port:
            answered = self.answered() - answered
            if answered != requests:
                raise RuntimeError(f"{self.name}: {answered} of {requests} ok")
        self.rows.setdefault(shape, []).append(load)
        return load

    def median(self, shape, figure):
        return statistics.median(getattr(r, figure) for r in self.rows[shape])


def alternate(systems, rounds, shape, requests, clients, streams, folder):
    """A run of each to warm up (connections, pages, caches), which is not
    counted, then one of each per round."""
    for system in systems:
        system.run("warm", max(500, requests // 10), clients, streams, folder)
    for _ in range(rounds):
        for system in systems:
            system.run(shape, requests, clients, streams, folder)


def ratios(a, b, shape, figure):
    """One of each round."""
    return [getattr(x, figure) / max(getattr(y, figure), 1e-9)
            for x, y in zip(a.rows[shape], b.rows[shape])]


def report(systems, shape, title):
    print(f"\n{title}\n")
    print("| system | requests/s | p50 us | p99 us | CPU us/request |")
    print("|---|---|---|---|---|")
    for system in systems:
        print(f"| {system.name} | {system.median(shape, 'rate'):.0f} "
              f"| {system.median(shape, 'p50_us'):.0f} "
              f"| {system.median(shape, 'p99_us'):.0f} "
              f"| {system.median(shape, 'cpu_us'):.1f} |")


class Peers:
    """The systems that call one nginx, which speaks `protocol` over TLS."""

    def __init__(self, bench, v1, protocol):
        self.bench, self.protocol = bench, protocol
        _, self.nginx_port = bench.nginx(BODY_BYTES, http2=protocol == "h2")
        self.request = peers.grpc_message(
            bench.folder, "execute-" + protocol.replace("/", "-"),
            v1.ExecuteRequest(url=f"https://localhost:{self.nginx_port}/small"))

    def hotlined(self, name="hotlined", **options):
        process, port, http_port = self.bench.hotlined(256, **options)
        return System(f"{name}, {self.protocol} out", process, port, EXECUTE,
                      self.request, http_port)

    def haproxy(self):
        process, port = self.bench.haproxy(self.nginx_port, self.protocol)
        return System(f"HAProxy, {self.protocol} out", process, port, "/small")

    def go(self):
        process, port = self.bench.peer_go()
        return System(f"Go broker, {self.protocol} out", process, port, EXECUTE,
                      self.request)

    def echo(self):
        process, port = self.bench.echo(BODY_BYTES)
        return System("bare gRPC echo", process, port, EXECUTE, self.request)
