"""The demonstration that scripts/demo runs once everything is built."""

import os
import shlex
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

from hotline.v1 import broker_pb2 as pb

import certs
import hotlined
import nginx

COLD_CALLS = 100
HOT_CALLS = 1000

BOLD, PLAIN = ("\033[1m", "\033[0m") if (
    sys.stdout.isatty() and not os.environ.get("NO_COLOR")) else ("", "")


def say(text=""):
    print(text, flush=True)


def heading(text):
    say("\n%s== %s%s" % (BOLD, text, PLAIN))


class Shell:
    """Prints commands and runs them."""

    def __init__(self, binary, address):
        self._binary = binary
        self._environment = dict(os.environ, HOTLINE_ADDRESS=address)

    def hotline(self, *words, shown=None):
        """`hotline WORDS…`; returns its standard output."""
        say("%s$ hotline %s%s" % (BOLD, shown or shlex.join(words), PLAIN))
        done = subprocess.run((self._binary,) + words, env=self._environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=True, timeout=30)
        text = done.stdout.decode()
        say(text.rstrip("\n"))
        return text


def example_config(authority):
    """deploy/hotline.example.yaml, adapted to this machine."""
    with open("deploy/hotline.example.yaml", encoding="utf-8") as file:
        config = yaml.safe_load(file)
    config["listen"] = {"grpc": ["127.0.0.1:0"], "http": "127.0.0.1:0",
                        "admin": "127.0.0.1:0"}
    # nginx is on loopback, with a certificate of the demo's own authority.
    config["egress"]["allow"] = ["127.0.0.0/8"]
    config["upstream"]["ca_file"] = authority.cert
    # They would keep connections to a host that does not exist.
    config["targets"] = []
    return config


def timed_executes(server, url, count, group):
    """Durations of `count` calls as seen by the caller, in seconds."""
    seconds = []
    for number in range(count):
        request = pb.ExecuteRequest(url=url)
        request.options.pool_group = group(number)
        start = time.perf_counter()
        answer = server.broker.Execute(request, timeout=10)
        seconds.append(time.perf_counter() - start)
        if answer.status != 200:
            raise RuntimeError("status %d" % answer.status)
    return seconds


def show_cold_and_hot(server, upstream, url):
    heading("A new connection for each call, compared with a hot one")
    rows = []
    for name, count, group in (
            # A group of its own for each call, so no connection fits.
            ("cold", COLD_CALLS, "cold-{}".format),
            ("hot", HOT_CALLS, lambda _: "hot")):
        before = upstream.accepted_connections()
        seconds = timed_executes(server, url, count, group)
        handshakes = upstream.accepted_connections() - before
        rows.append((name, count, handshakes, statistics.median(seconds)))
    say("       calls  TLS handshakes at nginx  p50 of Execute")
    for name, count, handshakes, median in rows:
        say("%-5s %6d  %23d  %11.2f ms"
            % (name, count, handshakes, median * 1e3))
    (_, _, _, cold), (_, count, handshakes, hot) = rows
    say("%d of %d handshakes saved; a hot call takes %.2f of a cold call's time"
        % (count - handshakes, count, hot / cold))
    say("over loopback, where round trips cost nothing. On a real network each "
        "handshake\nsaved is two round trips more.")


def show_one_call(shell, url):
    heading("Two calls with their receipts: the first has to connect")
    shell.hotline("get", "--receipt", url)
    say()
    shell.hotline("get", "--receipt", url)


def show_lease(shell, upstream, target):
    heading("Borrow a connection, use it three times, release it")
    before = len(upstream.requests("good"))
    lease = shell.hotline("acquire", "--client-id", "demo", "--purpose",
                          "three calls", target).strip()
    for _ in range(3):
        shell.hotline("get", "--lease", lease, target + "/",
                      shown="get --lease \"$LEASE\" %s/" % target)
    say()
    shell.hotline("stats", "--view", "leases")
    say()
    shell.hotline("release", lease, shown="release \"$LEASE\"")
    served = upstream.requests("good")[before:]
    say("nginx received these %d requests on %d connection."
        % (len(served), len({request.connection for request in served})))


def show_stats(shell, server, target):
    heading("The state of the pool")
    shell.hotline("stats")
    heading("The metrics for Prometheus")
    wanted = ("hotline_connections_opened_total", "hotline_executes_total",
              "hotline_connection_reuse_total", "hotline_waiters",
              "hotline_acquire_wait_seconds_count")
    say("%s$ curl -s http://%s/metrics%s" % (BOLD, server.http, PLAIN))
    for line in server.page("/metrics")[2].splitlines():
        if line.startswith(wanted) and target in line and line[-2:] != " 0":
            say(line)


def run(directory, daemon, command_line):
    """Starts both servers, runs the demonstration, and stops them."""
    authority = certs.Authority(directory)
    upstream = nginx.Nginx(directory, {"good": authority.issue("good")})
    try:
        server = hotlined.Hotlined(directory, example_config(authority), daemon)
        try:
            target = "https://localhost:%d" % upstream.ports["good"]
            say("\nnginx serves %s over TLS; hotlined serves gRPC on %s."
                % (target, server.address))
            # nginx's first handshake takes far longer than the others; keep it
            # out of the figures.
            with urllib.request.urlopen(
                    target, context=ssl.create_default_context(
                        cafile=authority.cert)) as answer:
                answer.read()
            shell = Shell(command_line, server.address)
            show_one_call(shell, target + "/")
            show_cold_and_hot(server, upstream, target + "/")
            show_lease(shell, upstream, target)
            show_stats(shell, server, target)
            code = server.stop()
            say("\nhotlined drained and exited with %d; nginx is stopped, too."
                % code)
            return code
        finally:
            if server.process.poll() is None:
                server.stop()
    finally:
        upstream.stop()


def main():
    # Ctrl-C and SIGTERM unwind, which stops the servers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = tempfile.mkdtemp(prefix="hl", dir="/tmp")
    try:
        return run(directory, *sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
