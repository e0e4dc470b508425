"""The control plane (listen.admin) of a running hotlined, and the log, which is
the only thing on standard error."""

import json
import os
import re
import signal
import socket
import subprocess
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import threads
import wait

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"
# What gRPC's library and others would write by themselves at this setting.
VERBOSE = {"GRPC_VERBOSITY": "debug", "GRPC_TRACE": "api,http,tcp,server_channel"}
LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) ")


class AdminTest(harness.EndToEnd):

    def admin(self, server):
        channel = grpc.insecure_channel(server.admin)
        self.addCleanup(channel.close)
        return channel

    def check(self, server):
        """grpc.health.v1's answer about the server, over a new connection."""
        with grpc.insecure_channel(server.admin) as channel:
            return channel.unary_unary(HEALTH)(b"", timeout=20)

    def test_it_answers_while_the_data_plane_drains(self):
        _, server, target = self.start_both({"shutdown_grace": "60s"})
        self.assertEqual(self.check(server), SERVING)
        lease = server.broker.Acquire(
            pb.AcquireRequest(target=target, lease_ttl=hotlined.seconds(50)),
            timeout=20).lease
        server.process.send_signal(signal.SIGTERM)
        # The lease keeps the process in its drain.
        wait.until(lambda: self.check(server) == NOT_SERVING, "it drains", 20)
        self.assertEqual(server.page("/readyz")[0], 503)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease.lease_id),
                              timeout=20)
        self.assertEqual(server.process.wait(timeout=30), 0)
        server.stop()  # Closes its log and channel.

    def check_services(self, channel):
        """Reflection and channelz answer."""
        reflect = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        # list_services: "*".
        listed = next(reflect(iter([b"\x3a\x01*"]), timeout=20))
        self.assertIn(b"grpc.channelz.v1.Channelz", listed)
        servers = channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
        self.assertNotEqual(servers(b"", timeout=20), b"")

    def test_it_answers_while_every_loop_stands_still(self):
        _, server, target = self.start_both({"upstream": {"loops": 2}})
        request = pb.ExecuteRequest(url=target + "/")
        self.assertEqual(server.broker.Execute(request, timeout=20).status, 200)
        loops = threads.named(server.process, "hotline-loop")
        self.assertEqual(len(loops), 2)
        with threads.held(loops):
            call = server.broker.Execute.future(request, timeout=60)
            for _ in range(10):
                self.assertEqual(self.check(server), SERVING)
                self.check_services(self.admin(server))
            for page in ("/healthz", "/readyz", "/metrics"):
                self.assertEqual(server.page(page)[0], 200)
            self.assertFalse(call.done())
        self.assertEqual(call.result().status, 200)

    def test_reflection_and_channelz_are_there(self):
        server = self.start_hotlined()
        channel = self.admin(server)
        self.check_services(channel)
        # Policies guard the Broker, so it is served by the front alone.
        with self.assertRaises(grpc.RpcError) as raised:
            channel.unary_unary("/hotline.v1.Broker/Stats")(b"", timeout=20)
        self.assertEqual(raised.exception.code(),
                         grpc.StatusCode.UNIMPLEMENTED)

    def test_it_answers_again_after_descriptors_have_run_out(self):
        server = self.start_hotlined(before="ulimit -n 64")
        host, port = server.admin.rsplit(":", 1)
        crowd = [socket.create_connection((host, int(port)), timeout=20)
                 for _ in range(200)]
        wait.until(lambda: "cannot accept a connection" in server.log(),
                   "descriptors run out", 20)
        for connection in crowd:
            connection.close()

        wait.until(lambda: self.answers(server), "it answers again", 20)

    def answers(self, server):
        """Whether it answers over a new connection."""
        try:
            return self.check(server) == SERVING
        except grpc.RpcError:
            return False

    def test_it_answers_while_the_data_plane_has_all_descriptors(self):
        upstream = self.start_nginx()
        target = "https://127.0.0.1:%d" % upstream.ports["good"]
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 90}},
            before="ulimit -n 64")
        before = self.admin(server).unary_unary(HEALTH)
        self.assertEqual(before(b"", timeout=20), SERVING)
        # Dials until there is none left.
        self.hotline(server, "warm", "-n", "60", "--wait", "1s", target,
                     code=1)

        def explains():
            try:
                return "Too many open files" in self.hotline(
                    server, "explain", target)[0]
            except AssertionError:  # A newcomer may find no descriptor, either.
                return False
        wait.until(explains, "it explains that", 30)
        for _ in range(10):
            self.assertEqual(before(b"", timeout=20), SERVING)
        wait.until(lambda: self.answers(server), "it answers a newcomer", 30)

    def test_a_flood_of_callers_leaves_the_operators_alone(self):
        server = self.start_hotlined(before="ulimit -n 64")
        host, port = server.address.rsplit(":", 1)
        crowd = [socket.create_connection((host, int(port)), timeout=20)
                 for _ in range(100)]
        try:
            for _ in range(10):
                self.assertEqual(self.check(server), SERVING)
            self.hotline(server, "explain", "http://127.0.0.1:1")
        finally:
            for connection in crowd:
                connection.close()

    def test_a_second_process_names_the_key(self):
        server = self.start_hotlined()
        config = json.loads(json.dumps(server.config))
        config["listen"] = {"grpc": ["127.0.0.1:0"], "http": "127.0.0.1:0",
                            "admin": server.admin}
        path = os.path.join(self.directory, "second.yaml")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(config, out)
        second = subprocess.run(["server/hotlined", "--config", path],
                                stderr=subprocess.PIPE, timeout=60,
                                check=False)
        self.assertEqual(second.returncode, 1)
        self.assertIn("listen.admin: cannot listen on %s: Address already in "
                      "use" % server.admin, second.stderr.decode())

    def test_it_can_be_switched_off(self):
        server = self.start_hotlined({"listen": {"admin": ""}})
        self.assertEqual(server.admin, "")
        self.assertNotIn("protocol=admin", server.log())
        self.assertEqual(server.health(), "SERVING")


class LibraryLinesTest(harness.EndToEnd):

    def start_verbose(self, form):
        exports = " ".join("%s=%s" % item for item in VERBOSE.items())
        return self.start_hotlined(
            {"log": {"level": "debug", "format": form}},
            before="export " + exports)

    def provoke(self, server):
        """Makes gRPC's library write; waits for a line of it."""
        with grpc.insecure_channel(server.admin) as channel:
            channel.unary_unary(HEALTH)(b"", timeout=20)
        wait.until(lambda: "from a library" in server.log(),
                   "a line of gRPC's library", 20)
        self.assertEqual(server.stop(), 0)
        return server.log().splitlines()

    def test_every_line_is_json_of_ours(self):
        libraries = set()
        for line in self.provoke(self.start_verbose("json")):
            entry = json.loads(line)
            self.assertEqual(list(entry)[:3], ["time", "level", "message"])
            if entry["message"] == "from a library":
                libraries.add(entry["library"])
        self.assertIn("grpc", libraries)

    def test_every_line_is_text_of_ours(self):
        for line in self.provoke(self.start_verbose("text")):
            self.assertRegex(line, LOG_LINE)

    def test_the_command_line_has_its_own_lines_alone(self):
        # Nobody listens there: the library has much to say of that.
        for verbose in ({}, VERBOSE):
            done = subprocess.run(
                ["client/hotline", "--address", "127.0.0.1:1", "stats"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                check=False, env={**os.environ, **verbose})
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stdout, b"")
            lines = done.stderr.decode().splitlines()
            own = [line for line in lines if line.startswith("hotline: ")]
            self.assertNotEqual(own, [], lines)
            for line in lines:
                if line not in own:
                    self.assertTrue(verbose, line)
                    self.assertRegex(line, LOG_LINE)


if __name__ == "__main__":
    unittest.main()
