"""Servers that speak anything but HTTP: Redis and PostgreSQL, from Debian."""

import glob
import os
import shutil
import subprocess

import wait


class Redis:

    def __init__(self, directory):
        directory = os.path.join(directory, "redis")
        os.mkdir(directory)
        self.port = wait.free_port()
        self._process = wait.start(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
             "--dir", directory, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait.until(lambda: wait.accepts(self.port), "redis listens", 30)

    def stop(self):
        wait.end(self._process)


class Postgres:
    """It refuses to be run by root; then it is run by Debian's "postgres"."""

    def __init__(self, directory):
        self._data = os.path.join(directory, "postgres")
        os.mkdir(self._data)
        # The newest that is installed.
        self._bin = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self._become = []
        if os.geteuid() == 0:
            os.chmod(directory, 0o755)
            shutil.chown(self._data, "postgres", "postgres")
            self._become = ["setpriv", "--reuid=postgres", "--regid=postgres",
                            "--clear-groups", "--pdeathsig=TERM"]
        subprocess.run(
            self._command("initdb", "-D", self._data, "-U", "tester",
                          "--auth=trust", "--no-sync", "--no-locale",
                          "--encoding=UTF8"),
            stdout=subprocess.DEVNULL, cwd="/", check=True, timeout=120)
        self.port = wait.free_port()
        self._process = wait.start(
            self._command("postgres", "-D", self._data, "-p", str(self.port),
                          "-c", "listen_addresses=127.0.0.1",
                          "-c", "unix_socket_directories=", "-c", "fsync=off"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        wait.until(lambda: wait.accepts(self.port), "postgres listens", 60)

    def _command(self, name, *arguments):
        return self._become + [os.path.join(self._bin, name)] + list(arguments)

    def stop(self):
        wait.end(self._process)
