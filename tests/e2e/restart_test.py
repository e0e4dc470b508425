"""Restarts without a gap: a new process takes the listening sockets over."""

import os
import re
import signal
import socket
import sys
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import callers
import harness
import hotlined
import peers
import sessions
import wait

# A process that cannot get warm waits for as long as its test needs.
PATIENT = {"rewarm": {"patience": "600s"}}
# A connection of its own, and otherwise as a client is by default.
OWN = [("grpc.use_local_subchannel_pool", 1)]

# Makes descriptors the first ones, as systemd does, and becomes the program:
# DESCRIPTORS PROGRAM ARGUMENT…
ACTIVATE = """
import os, sys
wanted = [int(number) for number in sys.argv[1].split(",")]
for i, fd in enumerate(wanted):
    os.dup2(fd, 100 + i)
for i in range(len(wanted)):
    os.dup2(100 + i, 3 + i, inheritable=True)
os.closerange(3 + len(wanted), 200)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(wanted))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Caller:  # pylint: disable=too-few-public-methods
    """As much of a server as a Session needs, over its own connection."""

    def __init__(self, case, address):
        self.channel = grpc.insecure_channel(address, options=OWN)
        case.addCleanup(self.channel.close)
        self.broker = broker_pb2_grpc.BrokerStub(self.channel)


class Restart(harness.EndToEnd):

    def start(self, config=None, **options):
        return self.start_hotlined(config, takeover=True, **options)

    def take_over(self, server):
        """The process before, which may be draining."""
        old = server.take_over()
        self.addCleanup(wait.end, old)
        return old

    def start_taker(self, server):
        taker = server.start_taker()
        self.addCleanup(wait.end, taker, signal.SIGKILL)
        return taker

    def await_log(self, server, line, count=1):
        wait.until(lambda: server.log().count(line) >= count, line, 60)

    def check_files_gone(self, server):
        self.assertEqual(server.stop(), 0)
        left = [f for f in os.listdir(server.directory) if f.endswith(".sock")]
        self.assertEqual(left, [])


class UnderLoadTest(Restart):

    CALLS = 100  # Between two restarts, at least.

    def restart_under(self, load, server, times):
        """The processes before the last one."""
        old = []
        for _ in range(times):
            before = load.done()
            wait.until(lambda b=before: load.done() >= b + self.CALLS
                       or load.bugs, "calls in between", 120)
            old.append(self.take_over(server))
        before = load.done()
        wait.until(lambda: load.done() >= before + self.CALLS or load.bugs,
                   "calls at the end", 120)
        return old

    def check(self, load, upstream):
        """Every call was answered, and sent upstream once."""
        outcomes = load.stop()
        failed = {n: callers.describe(o) + (o.details(),)
                  for n, o in outcomes.items()
                  if isinstance(o, grpc.RpcError)}
        self.assertEqual(failed, {})
        for number, answer in outcomes.items():
            self.assertEqual(answer.status, 200)
            if number % 50:
                self.assertEqual(answer.body, b"GET %d\n" % number)
        # The log of nginx may lag behind.
        wait.until(lambda: len(self.ids(upstream)) >= len(outcomes),
                   "all are in the log", 30)
        self.assertEqual(self.ids(upstream), sorted(outcomes))

    @staticmethod
    def ids(upstream):
        return sorted(int(r.id) for r in upstream.requests("good")
                      if r.id != "-")

    @staticmethod
    def request(target, number):
        # Some take a second, so that some are under way at each restart.
        path = "/echo" if number % 50 else "/slow"
        return callers.request(target + path, number)

    def test_twenty_restarts_fail_no_call_and_leak_nothing(self):
        upstream = self.start_nginx()
        target = "https://localhost:%d" % upstream.ports["good"]
        server = self.start({"pool": {"idle_timeout": "1s"}})
        server.stats()  # So that our own connection is there already.
        descriptors = server.descriptors()
        local = "unix://" + server.socket
        all_callers = [Caller(self, a) for a in (server.address, local) * 2]

        def work(number):
            stub = all_callers[number % 4].broker
            return stub.Execute(self.request(target, number), timeout=60)

        load = callers.Load(8, work)
        try:
            old = self.restart_under(load, server, 20)
        finally:
            load.stop()
        self.check(load, upstream)
        for process in old:
            self.assertEqual(process.wait(60), 0)
        for caller in all_callers:
            caller.channel.close()
        server.stats()
        server.check_nothing_held()
        server.check_descriptors(descriptors)
        wait.until(lambda: upstream.open_connections() == 0,
                   "no connection is left upstream", 30)
        self.check_files_gone(server)

    def test_sessions_move_on_and_lose_no_item(self):
        upstream = self.start_nginx()
        target = "https://localhost:%d" % upstream.ports["good"]
        server = self.start()
        own = threading.local()
        opened = []

        def work(number):
            while True:
                if getattr(own, "session", None) is None:
                    own.session = sessions.Session(
                        Caller(self, server.address), timeout=300)
                    opened.append(own.session)
                try:
                    result, = own.session.ask(
                        execute=[self.request(target, number)])
                    return result.execute
                except grpc.RpcError as error:
                    own.session.cut()
                    own.session = None
                    if hotlined.reason(error) != "DRAINING":
                        raise

        load = callers.Load(4, work)
        try:
            old = self.restart_under(load, server, 5)
        finally:
            load.stop()
            for session in opened:
                session.cut()
        self.check(load, upstream)
        # Each process has ended the sessions that it had.
        self.assertGreater(len(opened), 4)
        for process in old:
            self.assertEqual(process.wait(60), 0)
        server.check_nothing_held()


class WarmTest(Restart):

    def peer(self):
        peer = peers.Peer(peers.always())
        self.addCleanup(peer.stop)
        return peer

    def heat(self, server, target, connections):
        leases = [server.broker.Acquire(
            pb.AcquireRequest(target=target), timeout=20).lease.lease_id
                  for _ in range(connections)]
        for lease in leases:
            server.broker.Release(pb.ReleaseRequest(lease_id=lease),
                                  timeout=20)

    def test_the_new_process_is_warm_before_it_serves(self):
        busy, floor = self.peer(), self.peer()
        server = self.start({"targets": [{"target": floor.target, "warm": 2}]})
        self.heat(server, busy.target, 3)
        old = self.take_over(server)
        # Without a file, and before any call.
        stats = server.stats()
        self.assertEqual(stats.totals.connections.idle, 5)
        self.assertEqual(stats.totals.counters.acquires, 0)
        self.assertEqual(old.wait(60), 0)
        wait.until(lambda: (busy.open, floor.open) == (3, 2),
                   "the old ones are closed", 30)

    def test_the_file_is_the_new_processs_after_a_takeover(self):
        peer = self.peer()
        path = os.path.join(self.directory, "warm.json")
        server = self.start({"rewarm": {"file": path, "interval": "3600s"}})
        self.heat(server, peer.target, 2)
        self.assertEqual(self.take_over(server).wait(60), 0)
        self.assertFalse(os.path.exists(path))
        self.assertEqual(server.stop(), 0)
        with open(path, encoding="utf-8") as file:
            self.assertIn(peer.target, file.read())


class LeaseTest(Restart):

    def acquire(self, caller, target):
        return caller.broker.Acquire(pb.AcquireRequest(target=target),
                                     timeout=20).lease.lease_id

    def execute(self, caller, target, lease):
        return caller.broker.Execute(
            pb.ExecuteRequest(url=target + "/", lease_id=lease), timeout=20)

    def test_a_holder_stays_until_it_has_released_its_lease(self):
        peer = peers.Peer(peers.always())
        self.addCleanup(peer.stop)
        server = self.start()
        holder = Caller(self, server.address)
        lease = self.acquire(holder, peer.target)
        instance = holder.broker.Stats(pb.StatsRequest(), timeout=20).instance
        old = self.take_over(server)
        self.assertNotEqual(server.stats().instance, instance)
        self.assertEqual(self.execute(holder, peer.target, lease).status, 200)
        holder.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)
        self.assertEqual(old.wait(60), 0)
        second = self.acquire(holder, peer.target)
        holder.broker.Release(pb.ReleaseRequest(lease_id=second), timeout=20)
        self.assertEqual(holder.broker.Stats(
            pb.StatsRequest(), timeout=20).instance, server.stats().instance)

    def test_a_lease_that_is_kept_too_long_is_another_instances(self):
        peer = peers.Peer(peers.always())
        self.addCleanup(peer.stop)
        server = self.start({"shutdown_grace": "1s"})
        holder = Caller(self, server.address)
        lease = self.acquire(holder, peer.target)
        self.assertEqual(self.take_over(server).wait(60), 0)
        with self.assertRaises(grpc.RpcError) as caught:
            self.execute(holder, peer.target, lease)
        self.assert_code(caught.exception,
                         grpc.StatusCode.FAILED_PRECONDITION,
                         "LEASE_OTHER_INSTANCE")


class FailedTakeoverTest(Restart):

    def start_cold(self):
        """A server whose successors do not get warm; and a target."""
        upstream = self.start_nginx()
        gone = "http://127.0.0.1:%d" % wait.free_port()
        server = self.start({**PATIENT,
                             "targets": [{"target": gone, "warm": 1}]})
        return server, "https://localhost:%d" % upstream.ports["good"]

    def check_serves(self, server, target):
        for address in (server.address, "unix://" + server.socket):
            caller = Caller(self, address)
            self.assertEqual(caller.broker.Execute(
                pb.ExecuteRequest(url=target + "/"), timeout=20).status, 200)
        self.assertEqual(server.page("/readyz")[0], 200)
        self.assertIsNone(server.process.poll())

    def test_the_old_process_goes_on_if_the_new_one_dies(self):
        server, target = self.start_cold()
        for count, how in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
            taker = self.start_taker(server)
            self.await_log(server, "a new process prepares to take over", count)
            taker.send_signal(how)
            code = taker.wait(30)
            self.assertEqual(code, -9 if how == signal.SIGKILL else 1)
            self.await_log(server, "no takeover: this process goes on", count)
            self.check_serves(server, target)
        # And one that need not wait takes over.
        server.config["rewarm"] = {"patience": "0s"}
        server.write_config()
        self.assertEqual(self.take_over(server).wait(60), 0)
        self.check_serves(server, target)
        self.check_files_gone(server)

    def test_a_configuration_that_cannot_start_changes_nothing(self):
        server, target = self.start_cold()
        server.config["listen"]["grpc"].append("unix:///no/such/directory/s")
        server.config["rewarm"] = {"patience": "0s"}
        server.write_config()
        self.assertEqual(self.start_taker(server).wait(30), 1)
        self.check_serves(server, target)

    def test_a_second_taker_is_refused(self):
        server, target = self.start_cold()
        self.start_taker(server)
        self.await_log(server, "a new process prepares to take over")
        self.assertEqual(self.start_taker(server).wait(30), 1)
        self.assertIn("is taking over", server.log())
        self.check_serves(server, target)

    def test_a_stop_of_the_old_process_ends_the_takeover(self):
        server, _ = self.start_cold()
        taker = self.start_taker(server)
        self.await_log(server, "a new process prepares to take over")
        self.assertEqual(server.stop(), 0)
        self.assertEqual(taker.wait(30), 1)
        self.assertIn("the running process has ended", server.log())


class SupervisorTest(Restart):

    def started_by(self, server):
        """The process that SIGUSR2 has started, by the log."""
        found = re.findall(r"started a new process to take over pid=(\d+)",
                           server.log())
        return int(found[-1]) if found else None

    @staticmethod
    def runs(pid):
        try:
            with open("/proc/%d/stat" % pid, encoding="ascii") as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def end(self, pid):
        if self.runs(pid):
            os.kill(pid, signal.SIGTERM)
        wait.until(lambda: not self.runs(pid), "it ends", 30)

    def test_sigusr2_replaces_the_process_and_systemd_follows(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(notify.close)
        notify.settimeout(30)
        path = os.path.join(self.directory, "notify")
        notify.bind(path)
        server = self.start(environment={"NOTIFY_SOCKET": path})
        self.assertEqual(notify.recv(100), b"READY=1")
        server.process.send_signal(signal.SIGUSR2)
        pid = wait.until(lambda: self.started_by(server), "it is started", 30)
        self.addCleanup(self.end, pid)
        self.assertEqual(notify.recv(100), b"MAINPID=%d" % pid)
        self.assertEqual(notify.recv(100), b"READY=1")
        # Our own connection moves on.
        self.assertEqual(server.process.wait(60), 0)
        caller = Caller(self, server.address)
        caller.broker.Stats(pb.StatsRequest(), timeout=20)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(notify.recv(100), b"STOPPING=1")
        wait.until(lambda: not self.runs(pid), "it ends", 30)
        self.assertFalse(os.path.exists(server.socket))

    def test_sigusr2_without_a_path_is_ignored(self):
        server = self.start_hotlined()
        server.process.send_signal(signal.SIGUSR2)
        self.await_log(server, "SIGUSR2 is ignored")
        self.assertEqual(server.health(), "SERVING")

    def test_sockets_of_systemd_are_used_and_keep_their_files(self):
        tcp = socket.create_server(("127.0.0.1", 0))
        path = os.path.join(self.directory, "activated.sock")
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        local.bind(path)
        local.listen()
        for sock in (tcp, local):
            self.addCleanup(sock.close)
            sock.set_inheritable(True)
        script = os.path.join(self.directory, "activate.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(ACTIVATE)
        starter = os.path.join(self.directory, "activate")
        with open(starter, "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\nexec %s %s %d,%d server/hotlined "$@"\n'
                       % (sys.executable, script, tcp.fileno(),
                          local.fileno()))
        os.chmod(starter, 0o755)
        address = "127.0.0.1:%d" % tcp.getsockname()[1]
        server = hotlined.Hotlined(
            self.directory, {"listen": {
                "grpc": [address, "unix://" + path], "http": "127.0.0.1:0",
                "admin": "127.0.0.1:0"}},
            binary=starter, descriptors=(tcp.fileno(), local.fileno()))
        self.addCleanup(server.abandon)
        self._logs.append(server.log)
        self.assertEqual(server.address, address)
        for where in (address, "unix://" + path):
            Caller(self, where).broker.Stats(pb.StatsRequest(), timeout=20)
        self.assertEqual(server.stop(), 0)
        # A caller that comes now waits for the next process.
        self.assertTrue(os.path.exists(path))
        caller = Caller(self, address)
        call = caller.broker.Stats.future(pb.StatsRequest(), timeout=60)
        server.start_again()
        self.assertEqual(call.result().instance, server.stats().instance)


if __name__ == "__main__":
    unittest.main()
