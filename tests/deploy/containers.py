"""podman and buildah with a storage of their own; images from this build."""

import ctypes
import json
import os
import re
import shutil
import subprocess
import threading

import wait

# The tree this file is in, found through its own link.
TREE = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))

# No network but each container's own loopback. runc, since crun wants other
# cgroups than some machines have; limits on files as low as where nobody may
# raise them.
_CONTAINERS = """
[containers]
netns = "none"
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{0}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{0}/networks"
"""

_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{0}/root"
runroot = "{0}/run"
"""

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def in_network_of(pid, work):
    """What work() returns, run in the network namespace of a process."""
    outcome = []

    def enter():
        with open("/proc/%d/ns/net" % pid, "rb") as namespace:
            if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        outcome.append(work())

    # The namespace is the thread's own, and ends with it.
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return outcome[0]


class Containers:
    """Everything below `directory`; nothing is left after remove()."""

    def __init__(self, directory):
        self.directory = directory
        for name, text in (("containers", _CONTAINERS), ("storage", _STORAGE)):
            with open(self._path(name + ".conf"), "w",
                      encoding="utf-8") as file:
                file.write(text.format(directory))
        self.environment = dict(
            os.environ, HOME=directory, TMPDIR=directory,
            CONTAINERS_CONF=self._path("containers.conf"),
            CONTAINERS_STORAGE_CONF=self._path("storage.conf"),
            SOURCE_DATE_EPOCH="1700000000")

    def _path(self, name):
        return os.path.join(self.directory, name)

    def command(self, *words, code=0, timeout=600):
        """Runs it; its standard output and error, together."""
        done = subprocess.run(words, env=self.environment, check=False,
                              stdout=subprocess.PIPE, timeout=timeout,
                              stderr=subprocess.STDOUT)
        output = done.stdout.decode()
        # There is no systemd here to run health checks by the clock.
        output = re.sub(r"(?m)^time=.*systemd connection.*\n", "", output)
        if code is not None and done.returncode != code:
            raise AssertionError("%s: %d\n%s" % (words, done.returncode,
                                                 output))
        return output

    def podman(self, *words, **options):
        return self.command("podman", *words, **options)

    def start(self, *words):
        """podman, in the background."""
        return subprocess.Popen(("podman",) + words, env=self.environment,
                                stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def binaries(self):
        """A folder as deploy/build-image wants it, of this build's programs."""
        folder = self._path("binaries")
        os.makedirs(folder, exist_ok=True)
        # Found from where the program is, not from where a link to it is.
        linked = self.command("ldd", os.path.realpath("server/hotlined"))
        library = re.search(r"libhotline_tls\.so => (\S+)", linked).group(1)
        for source, name in (("server/hotlined", "hotlined"),
                             ("client/hotline", "hotline"),
                             ("deploy/example/application", "hotline-example"),
                             (library, "libhotline_tls.so")):
            shutil.copy(source, os.path.join(folder, name))
        return folder

    def build_images(self):
        """deploy/build-image; the names of the broker's and the example's."""
        said = self.command(os.path.join(TREE, "deploy/build-image"),
                            "--binaries", self.binaries(), timeout=240)
        broker, application = re.findall(r"(?m)^hotline\S*:\S+$", said)
        return broker, application

    def inspect(self, name):
        return json.loads(self.podman("inspect", name))[0]

    def pid(self, name):
        return self.inspect(name)["State"]["Pid"]

    def exit_code(self, name, seconds=30):
        """Waits until the container has ended."""
        wait.until(lambda: self.inspect(name)["State"]["Status"] == "exited",
                   name + " ends", seconds)
        return self.inspect(name)["State"]["ExitCode"]

    def remove_pods(self):
        """All pods, containers and volumes.

        podman fails where a container ends by itself at the wrong moment; so it
        is asked until there is none.
        """
        def gone():
            for words in (("pod", "rm", "--force", "--all", "--time", "5"),
                          ("rm", "--force", "--all", "--time", "5"),
                          ("volume", "rm", "--force", "--all")):
                self.podman(*words, code=None)
            left = self.podman("pod", "ls", "--quiet") + self.podman(
                "ps", "--all", "--quiet") + self.podman(
                    "volume", "ls", "--quiet")
            return not left.strip()

        wait.until(gone, "no pods", 60)

    def remove(self):
        self.remove_pods()
        self.podman("rmi", "--force", "--all", code=None)
        shutil.rmtree(self.directory, ignore_errors=True)
