"""The real hotlined, and its gRPC services from Python."""

import json
import os
import signal
import urllib.request

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from google.rpc import status_pb2
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import wait


def error_details(error):
    """The messages in an RpcError's google.rpc.Status, by their short name."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            break
    else:
        return {}
    return details_of(status)


def details_of(status):
    """The same for a google.rpc.Status."""
    kinds = {"google.rpc.ErrorInfo": error_details_pb2.ErrorInfo,
             "google.rpc.RetryInfo": error_details_pb2.RetryInfo,
             "google.rpc.BadRequest": error_details_pb2.BadRequest,
             "hotline.v1.WaitExplanation": pb.WaitExplanation}
    found = {}
    for detail in status.details:
        name = detail.type_url.rsplit("/", 1)[-1]
        if name in kinds:
            found[name.rsplit(".", 1)[-1]] = kinds[name].FromString(
                detail.value)
    return found


def seconds(length):
    """A google.protobuf.Duration."""
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(length * 1e9))
    return duration


def reason(error):
    """The ErrorInfo's reason; "" where there is none of ours."""
    info = error_details(error).get("ErrorInfo")
    return info.reason if info and info.domain == "hotline" else ""


class Hotlined:
    """One hotlined on free ports. `config` is merged over what tests need.

    `takeover`: it takes over from the one before, and others from it (see
    take_over).
    """

    # pylint: disable-next=too-many-arguments
    def __init__(self, directory, config=None, binary="server/hotlined",
                 takeover=False, environment=None, descriptors=()):
        self.directory = os.path.join(directory, "hotlined")
        os.makedirs(self.directory, exist_ok=True)
        self.socket = os.path.join(self.directory, "h.sock")
        self.config = {
            "listen": {"grpc": ["127.0.0.1:0", "unix://" + self.socket],
                       "http": "127.0.0.1:0", "admin": "127.0.0.1:0"},
            "egress": {"allow": ["127.0.0.0/8", "::1/128"]},
            "log": {"level": "info"},
        }
        for key, value in (config or {}).items():
            self.config.setdefault(key, {})
            if isinstance(value, dict):
                self.config[key].update(value)
            else:
                self.config[key] = value
        self.config_path = os.path.join(self.directory, "hotline.yaml")
        self.write_config()
        self._command = [binary, "--config", self.config_path]
        if takeover:
            self._command += ["--takeover",
                              os.path.join(self.directory, "t.sock")]
        self._environment = environment or {}
        self._descriptors = descriptors  # That it inherits.
        self._log_path = os.path.join(self.directory, "log")
        self._start()

    def write_config(self):
        # JSON is YAML.
        with open(self.config_path + ".new", "w", encoding="utf-8") as out:
            json.dump(self.config, out, indent=1)
        os.replace(self.config_path + ".new", self.config_path)

    def _start(self):
        ports = os.path.join(self.directory, "ports.json")
        if os.path.exists(ports):
            os.remove(ports)  # Of the one before.
        environment = dict(os.environ, HOTLINE_PORTS_FILE=ports,
                           **self._environment)
        # pylint: disable=consider-using-with
        self._log = open(self._log_path, "ab")
        self.process = wait.start(self._command, stderr=self._log,
                                  stdout=self._log, env=environment,
                                  pass_fds=self._descriptors)
        wait.until(lambda: os.path.exists(ports)
                   or self.process.poll() is not None, "hotlined listens")
        if self.process.poll() is not None:
            raise RuntimeError("hotlined did not start: " + self.log())
        with open(ports, encoding="utf-8") as file:
            listening = json.load(file)
        self.address = next(a for a in listening["grpc"] if a[:5] != "unix:")
        self.http = listening["http"]
        self.admin = listening["admin"]
        self.channel = grpc.insecure_channel(
            self.address, options=[("grpc.max_receive_message_length", 8 << 20),
                                   ("grpc.enable_retries", 0)])
        self.broker = broker_pb2_grpc.BrokerStub(self.channel)

    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def page(self, path):
        """(status, content type, body) of the HTTP listener's page."""
        request = urllib.request.Request("http://%s%s" % (self.http, path))
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return (answer.status, answer.headers["Content-Type"],
                        answer.read().decode())
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers["Content-Type"], ""

    def metrics(self):
        """Sample -> value: 'hotline_waiters{target="…"}' -> 0.0."""
        samples = {}
        for line in self.page("/metrics")[2].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def stats(self, **fields):
        return self.stats_of(self.broker, **fields)

    @staticmethod
    def stats_of(stub, **fields):
        """Stats as the caller behind `stub` sees them."""
        return stub.Stats(pb.StatsRequest(**fields), timeout=10)

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def check_nothing_held(self, seconds=10):
        """Zero leases, zero waiters, or AssertionError."""
        self.check_nothing_held_as(self.broker, seconds)

    def check_nothing_held_as(self, stub, seconds=10):
        """The same, asked by the caller behind `stub`."""
        def quiet():
            stats = self.stats_of(stub)
            return (stats.totals.waiters == 0
                    and stats.totals.connections.leased == 0
                    and all(t.leases == 0 for t in stats.targets))
        wait.until(quiet, "no leases and no waiters", seconds)

    def check_descriptors(self, before, seconds=20):
        """As many descriptors as `before`, once idle connections are gone."""
        wait.until(lambda: self.descriptors() <= before,
                   "descriptors back at %d" % before, seconds)

    def health(self, service=""):
        """Its grpc.health.v1 status ("SERVING", …), or the call's status code."""
        call = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        # A request whose only field, number 1, is the service's name.
        name = service.encode()
        request = b"\x0a" + bytes([len(name)]) + name if name else b""
        try:
            answer = call(request, timeout=20)
        except grpc.RpcError as error:
            return error.code().name
        return ("UNKNOWN", "SERVING", "NOT_SERVING")[answer[1] if answer else 0]

    def start_again(self):
        """With the same configuration, once it has ended."""
        self.channel.close()
        self._log.close()
        self._start()

    def take_over(self):
        """Another process with the same configuration takes over, and is the
        one from now on. The one before, which drains and ends."""
        before = self.process
        self.start_again()
        return before

    def start_taker(self):
        """A process that is to take over; does not wait for it."""
        return wait.start(self._command, stderr=self._log, stdout=self._log,
                          env=dict(os.environ, **self._environment))

    def stop(self, sig=signal.SIGTERM):
        """Ends it; its exit code."""
        self.channel.close()
        try:
            return wait.end(self.process, sig)
        finally:
            self._log.close()

    def abandon(self):
        """Ends it without waiting for leases that are still held."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.stop()
