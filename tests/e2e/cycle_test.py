"""A client in another language: acquire, execute, release, health, drain."""

import signal
import subprocess
import sys
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import harness
import hotlined
import wait

# Acquires a lease, prints it and waits to be killed.
_HOLDER = """
import signal, sys
import grpc
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc
stub = broker_pb2_grpc.BrokerStub(grpc.insecure_channel(sys.argv[1]))
request = pb.AcquireRequest(target=sys.argv[2])
request.lease_ttl.FromSeconds(1)
print(stub.Acquire(request, timeout=10).lease.lease_id, flush=True)
signal.pause()
"""


class CycleTest(harness.EndToEnd):

    def test_acquire_three_executes_release_stats(self):
        upstream, server, target = self.start_both()
        acquired = server.broker.Acquire(
            pb.AcquireRequest(target=target, holder=pb.Holder(
                client_id="cycle", purpose="test")), timeout=10)
        lease = acquired.lease.lease_id
        self.assertTrue(lease)
        self.assertFalse(acquired.connection.reused)
        self.assertEqual(acquired.connection.tls_version, "TLSv1.3")
        leases = server.stats(view=pb.STATS_VIEW_LEASES).leases
        self.assertEqual([l.holder.client_id for l in leases], ["cycle"])

        for number in range(3):
            answer = server.broker.Execute(
                pb.ExecuteRequest(lease_id=lease, url=target + "/echo",
                                  headers=[pb.Header(name="X-Id",
                                                     value=b"%d" % number)]),
                timeout=10)
            self.assertEqual((answer.status, answer.body),
                             (200, b"GET %d\n" % number))
            self.assertEqual(answer.receipt.connection.connection_id,
                             acquired.connection.connection_id)
            self.assertEqual(answer.receipt.attempts, 1)

        release = pb.ReleaseRequest(lease_id=lease, outcome=pb.OUTCOME_OK)
        self.assertFalse(server.broker.Release(release).already_released)
        self.assertTrue(server.broker.Release(release).already_released)
        with self.assertRaises(grpc.RpcError) as caught:
            server.broker.Execute(
                pb.ExecuteRequest(lease_id=lease, url=target + "/"), timeout=10)
        self.assert_code(caught.exception, grpc.StatusCode.NOT_FOUND,
                         "LEASE_EXPIRED")

        stats = server.stats()
        self.assertEqual([t.target for t in stats.targets], [target])
        self.assertEqual(stats.totals.counters.acquires, 1)
        # Three, and the one on the lease that had ended.
        self.assertEqual(stats.totals.counters.executes, 4)
        self.assertEqual(stats.totals.counters.execute_failures, 1)
        self.assertEqual(stats.totals.counters.dials, 1)
        self.assertEqual(stats.totals.connections.idle, 1)
        server.check_nothing_held()
        requests = upstream.requests("good")
        self.assertEqual(len({r.connection for r in requests}), 1)
        self.assertEqual([r.nth for r in requests], ["1", "2", "3"])

    def test_the_status_of_the_upstream_is_data(self):
        _, server, target = self.start_both()
        for path, status in (("/404", 404), ("/500", 500), ("/204", 204)):
            answer = server.broker.Execute(
                pb.ExecuteRequest(url=target + path), timeout=10)
            self.assertEqual(answer.status, status)
        head = server.broker.Execute(
            pb.ExecuteRequest(url=target + "/", method="HEAD"), timeout=10)
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(server.stats().totals.counters.dials, 1)

    def test_an_error_explains_itself(self):
        _, server, target = self.start_both(
            {"pool": {"max_connections_per_target": 1}})
        held = server.broker.Acquire(pb.AcquireRequest(
            target=target, holder=pb.Holder(client_id="greedy")), timeout=10)
        with self.assertRaises(grpc.RpcError) as caught:
            server.broker.Acquire(pb.AcquireRequest(target=target), timeout=2)
        self.assert_code(caught.exception, grpc.StatusCode.DEADLINE_EXCEEDED,
                         "WAIT_TIMEOUT")
        waited = hotlined.error_details(caught.exception)["WaitExplanation"]
        self.assertEqual(waited.limit, "target_connections")
        self.assertEqual(waited.limit_value, 1)
        self.assertEqual(waited.oldest_holders[0].holder.client_id, "greedy")
        # A lease that is held would be waited for at the end.
        server.broker.Release(pb.ReleaseRequest(lease_id=held.lease.lease_id))

    def test_the_unix_socket_serves_too(self):
        _, server, target = self.start_both()
        with grpc.insecure_channel("unix://" + server.socket) as channel:
            stub = broker_pb2_grpc.BrokerStub(channel)
            answer = stub.Execute(pb.ExecuteRequest(url=target + "/"),
                                  timeout=10)
        self.assertEqual(answer.body, b"hello\n")

    def test_a_killed_client_gives_its_slot_back_by_ttl(self):
        upstream, server, target = self.start_both(
            {"pool": {"max_connections_per_target": 1}})
        holder = wait.start(
            [sys.executable, "-c", _HOLDER, server.address, target],
            stdout=subprocess.PIPE)
        self.addCleanup(holder.stdout.close)
        self.assertTrue(holder.stdout.readline())
        wait.end(holder, signal.SIGKILL)
        with self.assertRaises(grpc.RpcError) as caught:
            request = pb.AcquireRequest(target=target)
            request.max_wait.FromSeconds(0)
            server.broker.Acquire(request, timeout=10)
        self.assert_code(caught.exception, grpc.StatusCode.RESOURCE_EXHAUSTED,
                         "NO_IDLE_CONNECTION")

        lease = server.broker.Acquire(pb.AcquireRequest(target=target),
                                      timeout=20)
        self.assertFalse(lease.connection.reused, "nobody knows its state")
        self.assertEqual(server.stats().totals.counters.leases_expired, 1)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease.lease.lease_id))
        server.check_nothing_held()
        self.assertEqual(upstream.accepted_connections(), 2)


class ServingTest(harness.EndToEnd):

    def check_health(self, server, service=b""):
        call = server.channel.unary_unary("/grpc.health.v1.Health/Check")
        field = b"\x0a" + bytes([len(service)]) + service if service else b""
        return call(field, timeout=10)

    def test_health_knows_its_services(self):
        server = self.start_hotlined()
        serving = b"\x08\x01"
        self.assertEqual(self.check_health(server), serving)
        self.assertEqual(self.check_health(server, b"hotline.v1.Broker"),
                         serving)
        with self.assertRaises(grpc.RpcError) as caught:
            self.check_health(server, b"nobody")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_reflection_describes_the_broker(self):
        server = self.start_hotlined()
        ask = server.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        # list_services, then file_containing_symbol.
        symbol = b"hotline.v1.Broker"
        answers = ask(iter([b"\x3a\x01*",
                            b"\x22" + bytes([len(symbol)]) + symbol]),
                      timeout=10)
        listed, described = list(answers)
        self.assertIn(symbol, listed)
        self.assertIn(b"grpc.health.v1.Health", listed)
        self.assertIn(b"ExecuteRequest", described)

    def test_sigterm_ends_cleanly(self):
        _, server, target = self.start_both()
        server.broker.Execute(pb.ExecuteRequest(url=target + "/"), timeout=10)
        self.assertEqual(server.stop(), 0, server.log())

    def test_sigterm_lets_calls_finish(self):
        _, server, target = self.start_both()
        running = server.broker.Execute.future(
            pb.ExecuteRequest(url=target + "/slow"), timeout=30)
        wait.until(lambda: server.stats().totals.connections.leased == 1,
                   "the call runs")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(len(running.result().body), 2048)
        self.assertEqual(server.stop(), 0, server.log())

    def test_a_health_check_sees_the_drain(self):
        _, server, target = self.start_both()
        running = server.broker.Execute.future(
            pb.ExecuteRequest(url=target + "/slow"), timeout=30)
        wait.until(lambda: server.stats().totals.connections.leased == 1,
                   "the call runs")
        server.process.send_signal(signal.SIGTERM)
        not_serving = b"\x08\x02"
        wait.until(lambda: self.check_health(server) == not_serving,
                   "NOT_SERVING")
        self.assertEqual(server.page("/readyz")[0], 503)
        self.assertEqual(server.page("/healthz")[0], 200)
        with self.assertRaises(grpc.RpcError) as caught:
            server.broker.Acquire(pb.AcquireRequest(target=target), timeout=10)
        self.assert_code(caught.exception, grpc.StatusCode.UNAVAILABLE,
                         "DRAINING")
        self.assertEqual(running.result().status, 200)
        self.assertEqual(server.stop(), 0, server.log())


if __name__ == "__main__":
    unittest.main()
