"""What every end-to-end test starts from: nginx with TLS, and hotlined."""

import os
import shutil
import subprocess
import tempfile
import unittest

import certs
import hotlined
import nginx


class EndToEnd(unittest.TestCase):
    """A temporary directory, an authority, and servers that end with the test.

    Where hotlined misbehaved, its log is printed with the failure.
    """

    def setUp(self):
        # Short: a Unix socket's path has 108 bytes at most.
        self.directory = tempfile.mkdtemp(prefix="hl", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.authority = certs.Authority(self.directory)
        self._logs = []
        self.addCleanup(self._print_logs)

    def _print_logs(self):
        outcome = self._outcome.result
        failed = any(case is self for case, _ in
                     outcome.failures + outcome.errors)
        for log in self._logs if failed else ():
            print("--- log of hotlined\n" + log()[-8000:])

    def start_nginx(self, servers=None, extra="", http2=False):
        servers = servers or {"good": self.authority.issue("good")}
        server = nginx.Nginx(self.directory, servers, extra, http2)
        self.addCleanup(server.stop)
        return server

    def start_hotlined(self, config=None, before="", **options):
        """With our authority trusted for upstreams.

        `before`: shell commands of its process before it becomes hotlined.
        `options`: those of hotlined.Hotlined.
        """
        config = dict(config or {})
        config["upstream"] = {"ca_file": self.authority.cert,
                              **config.get("upstream", {})}
        binary = "server/hotlined"
        if before:
            script = os.path.join(self.directory, "start")
            with open(script, "w", encoding="utf-8") as out:
                out.write('#!/bin/sh\n%s\nexec %s "$@"\n' % (before, binary))
            os.chmod(script, 0o755)
            binary = script
        server = hotlined.Hotlined(self.directory, config, binary, **options)
        self._logs.append(server.log)
        self.addCleanup(server.abandon)
        return server

    def start_both(self, config=None, extra="", http2=False):
        """(nginx, hotlined, the target of the one for the other)."""
        upstream = self.start_nginx(extra=extra, http2=http2)
        server = self.start_hotlined(config)
        return upstream, server, "https://localhost:%d" % upstream.ports["good"]

    def hotline(self, server, *words, stdin=b"", code=0, decode=True):
        """Runs the command line; its standard output and error, as text."""
        environment = dict(os.environ, HOTLINE_ADDRESS=server.address,
                           HOTLINE_ADMIN_ADDRESS=server.admin)
        done = subprocess.run(("client/hotline",) + words, input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment, timeout=60, check=False)
        self.assertEqual(done.returncode, code,
                         "hotline %s: %s" % (words, done.stderr.decode()))
        out = done.stdout.decode() if decode else done.stdout
        return out, done.stderr.decode()

    def assert_code(self, error, code, reason):
        """An RpcError has this status code and our reason."""
        self.assertEqual(error.code(), code, error.details())
        self.assertEqual(hotlined.reason(error), reason, error.details())
