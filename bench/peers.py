"""Starts and stops the processes of a comparison, on free ports.

Every process is stopped by its own id; none is left behind.
"""

import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended: {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args[0]} does not listen on {port}")


def cpu_seconds(process):
    """User and system time of a process and its children that still live."""
    total = 0
    for pid in [process.pid] + children(process.pid):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        user, system = fields.rsplit(")", 1)[1].split()[11:13]
        total += (int(user) + int(system)) / CLOCK_TICKS
    return total


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def metric(http_port, family, labels=""):
    """The sum of hotlined's series of `family` with these labels (a regular
    expression); None if it has no such series."""
    page = urllib.request.urlopen(
        f"http://127.0.0.1:{http_port}/metrics", timeout=30).read().decode()
    found = re.findall(
        rf"^{family}(?:\{{[^}}]*{labels}[^}}]*\}})? (\S+)", page, re.M)
    return sum(map(float, found)) if found else None


def resident_kib(process, field="VmRSS"):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(field + r":\s+(\d+) kB", status)[1])


def raise_descriptor_limit(wanted):
    """Processes started from here on may open `wanted` descriptors each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < wanted:
        raise SystemExit(f"needs {wanted} descriptors for each process; the "
                         f"hard limit (ulimit -Hn) is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


BARS_HEAD = "| bar | what | measured | bar | |\n|---|---|---|---|---|"


def bar(name, what, values, relation, limit, unit=""):
    """The row of one speed bar: the median of `values`, one per round, and
    their range. Without a limit the row is informative."""
    if not values or None in values:
        return (f"| {name} | {what} | not measured | {relation} {limit}{unit} "
                "| |")
    middle = statistics.median(values)
    digits = 1 if middle >= 10 else 2
    measured = f"{middle:.{digits}f}{unit}"
    if len(values) > 1:
        measured += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    if not relation:
        return f"| {name} | {what} | {measured} | | |"
    met = middle >= limit if relation == ">=" else middle <= limit
    return (f"| {name} | {what} | {measured} | {relation} {limit}{unit} "
            f"| {'met' if met else 'missed'} |")


def print_bars(rows):
    print("\n" + "\n".join([BARS_HEAD] + rows), flush=True)


class Bench:
    """A folder, the processes that live in it, and their end."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hotline-bench-"))
        self.processes = []

    def __enter__(self):
        # Ended from outside, it ends its processes, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        return self

    def __exit__(self, *unused):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *arguments, **options):
        log = open(self.folder / (pathlib.Path(arguments[0]).name + ".log"), "ab")
        options.setdefault("stdout", log)
        process = subprocess.Popen(
            [str(a) for a in arguments], stderr=log,
            stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def certificate(self):
        """A self-signed certificate for localhost; returns its file."""
        key, cert = self.folder / "key.pem", self.folder / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
             cert, "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True)
        (self.folder / "both.pem").write_text(
            cert.read_text() + key.read_text())
        return cert

    def nginx(self, body_bytes, http2=False, connections=8192):
        """nginx over TLS, one worker, serving /small; returns (process, port)."""
        port = free_port()
        web = self.folder / "web"
        web.mkdir(exist_ok=True)
        (web / "small").write_bytes(b"x" * body_bytes)
        config = self.folder / f"nginx-{port}.conf"
        config.write_text(f"""
daemon off; user root; worker_processes 1; pid {self.folder}/nginx-{port}.pid;
error_log stderr crit;
worker_rlimit_nofile {connections + 100};
events {{ worker_connections {connections}; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_header_timeout 600s;
  client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
  fastcgi_temp_path {self.folder}/fcgi; uwsgi_temp_path {self.folder}/uwsgi;
  scgi_temp_path {self.folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl{' http2' if http2 else ''};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {self.folder}/cert.pem;
    ssl_certificate_key {self.folder}/key.pem;
    http2_max_concurrent_streams 128;
    root {web};
    # Reads all of a body, which `return` would not.
    location = /up {{
      client_max_body_size 0; client_body_in_file_only clean;
      proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_method GET; proxy_pass https://127.0.0.1:{port}/small;
    }}
  }}
}}
""")
        process = self.start("/usr/sbin/nginx", "-c", config)
        wait_for_port(port, process)
        return process, port

    def haproxy(self, upstream_port, alpn):
        """HAProxy, h2c in, TLS out with `alpn`; one thread."""
        port = free_port()
        config = self.folder / f"haproxy-{port}.cfg"
        config.write_text(f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend front
  bind 127.0.0.1:{port} proto h2
  default_backend back
backend back
  server nginx 127.0.0.1:{upstream_port} ssl verify required ca-file {self.folder}/cert.pem sni str(localhost) verifyhost localhost alpn {alpn} maxconn 1000 pool-max-conn 1000
""")
        process = self.start("/usr/sbin/haproxy", "-db", "-f", config)
        wait_for_port(port, process)
        return process, port

    def echo(self, body_bytes):
        process = self.start(self.root / "bazel-bin/bench/echo_server",
                             "127.0.0.1:0", body_bytes, stdout=subprocess.PIPE)
        port = int(process.stdout.readline())
        wait_for_port(port, process)
        return process, port

    def peer_go(self):
        process = self.start(self.root / "bazel-bin/bench/peer_go/peer",
                             "127.0.0.1:0", self.folder / "cert.pem",
                             stdout=subprocess.PIPE)
        port = int(process.stdout.readline())
        wait_for_port(port, process)
        return process, port

    def hotlined(self, max_connections, extra="", pool="", loops=0, sockets="",
                 most=20000, admin=""):
        """hotlined with room for `max_connections` to each target and `most` to
        all; `sockets` are more addresses to listen on, each after a comma;
        `admin`: where the control plane listens."""
        grpc_port, http_port = free_port(), free_port()
        config = self.folder / f"hotline-{grpc_port}.yaml"
        config.write_text(f"""
listen:
  grpc: ["127.0.0.1:{grpc_port}"{sockets}]
  http: "127.0.0.1:{http_port}"
  admin: "{admin}"
pool: {{max_connections: {most}, max_connections_per_target: {max_connections}, {pool}}}
upstream: {{ca_file: "{self.folder}/cert.pem", loops: {loops}}}
egress: {{allow: ["127.0.0.0/8"]}}
log: {{level: "warning"}}
{extra}
""")
        process = self.start(self.root / "bazel-bin/server/hotlined",
                             "--config", config)
        wait_for_port(grpc_port, process)
        return process, grpc_port, http_port

    def rewrite(self, process, old, new):
        """Changes a running hotlined's configuration, which it notices."""
        path = pathlib.Path(process.args[-1])
        fresh = path.with_suffix(".new")
        fresh.write_text(path.read_text().replace(old, new))
        fresh.rename(path)


def load_protos(root, folder):
    """Python's classes for broker.proto, made on the spot."""
    subprocess.run(["protoc", f"-I{root}/proto",
                    f"-I{root}/node_modules/google-proto-files",
                    f"--python_out={folder}", "hotline/v1/broker.proto",
                    "google/rpc/status.proto"], check=True)
    sys.path.insert(0, str(folder))
    from hotline.v1 import broker_pb2
    return broker_pb2


def grpc_message(folder, name, message):
    """A file that h2load can send: one length-prefixed message."""
    path = folder / f"{name}.grpc"
    data = message.SerializeToString()
    path.write_bytes(b"\0" + len(data).to_bytes(4, "big") + data)
    return path
