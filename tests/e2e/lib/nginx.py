"""A real nginx as the upstream, with its connections counted."""

import collections
import os
import re
import signal
import subprocess
import urllib.request

import wait

# Of one request, in the access log.
Request = collections.namedtuple(
    "Request", "connection nth tls resumed method uri status id")

_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  client_max_body_size 16m;
  keepalive_requests 1000000;
  keepalive_timeout 300s;
  log_format counted '$connection $connection_requests $ssl_protocol '
                     '$ssl_session_reused $request_method $uri $status '
                     '$http_x_id';
  access_log off;
  ssl_protocols TLSv1.2 TLSv1.3;
  server {{
    listen 127.0.0.1:{status_port};
    location = /stub_status {{ stub_status; }}
  }}
{servers}
}}
"""

_SERVER = """
  server {{
    listen 127.0.0.1:{port}{tls};
    {certificate}
    access_log {dir}/access-{name}.log counted;
    {extra}
    location / {{ return 200 "hello\\n"; }}
    location = /204 {{ return 204; }}
    location = /404 {{ return 404 "no such thing\\n"; }}
    location = /500 {{ return 500 "broken\\n"; }}
    # A second and more for an answer of 2 KiB.
    location = /slow {{ limit_rate 1k; return 200 "{filler}"; }}
    location = /echo {{ return 200 "$request_method $http_x_id\\n"; }}
  }}
"""


class Nginx:
    """One nginx with one listener for each of `servers`.

    servers: name -> Certificate, or None for plain HTTP. `extra` goes into
    each server block. With `http2` those with TLS speak it, too.
    """

    def __init__(self, directory, servers, extra="", http2=False):
        self.directory = os.path.join(directory, "nginx")
        os.mkdir(self.directory)
        self._servers = servers
        self._tls = " ssl http2" if http2 else " ssl"
        self.ports = {}
        self._polls = 0
        # Another process may take a free port between the look and nginx.
        for attempt in range(5):
            if self._start(extra):
                return
        raise RuntimeError("nginx: " + self.error_log())

    def _start(self, extra):
        self.ports = {name: wait.free_port() for name in self._servers}
        self._status_port = wait.free_port()
        blocks = []
        for name, certificate in self._servers.items():
            lines = ""
            if certificate is not None:
                lines = "ssl_certificate %s; ssl_certificate_key %s;" % (
                    certificate.cert, certificate.key)
            blocks.append(_SERVER.format(
                port=self.ports[name], tls=self._tls if certificate else "",
                certificate=lines, dir=self.directory, name=name, extra=extra,
                filler="x" * 2048))
        config = os.path.join(self.directory, "nginx.conf")
        with open(config, "w", encoding="ascii") as out:
            # Where root is all there is, as in a sandbox, nobody can be become.
            user = "user root;" if os.geteuid() == 0 else ""
            out.write(_CONFIG.format(dir=self.directory, user=user,
                                     status_port=self._status_port,
                                     servers="".join(blocks)))
        self._process = wait.start(
            ["nginx", "-p", self.directory, "-c", config, "-e",
             os.path.join(self.directory, "error.log")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait.until(lambda: self._process.poll() is not None
                   or wait.accepts(self._status_port), "nginx listens")
        if self._process.poll() is not None:
            return False
        # The look at the port was one more connection.
        wait.until(lambda: self.status()["active"] == 1, "nginx is quiet")
        self._before = self.status()["accepted"]
        self._polls = 0
        return True

    def status(self):
        """The connections at this moment, this question's one included."""
        url = "http://127.0.0.1:%d/stub_status" % self._status_port
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        self._polls += 1
        accepted = int(re.search(r"\n (\d+) \d+ \d+", text).group(1))
        return {"active": int(re.search(r"connections: (\d+)", text).group(1)),
                "accepted": accepted}

    def open_connections(self):
        """Upstream connections that are open."""
        return self.status()["active"] - 1

    def accepted_connections(self):
        """Upstream connections accepted since the start."""
        accepted = self.status()["accepted"]
        return accepted - self._before - self._polls

    def requests(self, name):
        """The requests served by server `name`, in their order."""
        path = os.path.join(self.directory, "access-%s.log" % name)
        with open(path, encoding="utf-8") as log:
            return [Request(*line.split(" ", 7)) for line in
                    log.read().splitlines()]

    def error_log(self):
        path = os.path.join(self.directory, "error.log")
        if not os.path.exists(path):
            return "(no error log)"
        with open(path, encoding="utf-8", errors="replace") as log:
            return log.read()[-4000:]

    def reload(self):
        """New workers; the old ones close what is idle."""
        self._process.send_signal(signal.SIGHUP)

    def stop(self):
        wait.end(self._process)
