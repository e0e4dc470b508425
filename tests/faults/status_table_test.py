"""Each status and reason of the contract, provoked once over gRPC.

A reason that broker.proto names and no test here provokes fails the last test.
"""

import re
import signal
import socket
import threading
import time
import unittest

import grpc
from google.protobuf import duration_pb2
from hotline.v1 import broker_pb2 as pb
from hotline.v1 import broker_pb2_grpc

import certs
import harness
import hotlined
import peers
import sessions
import streams
import wait

Code = grpc.StatusCode

_NOW = duration_pb2.Duration()
_ME = pb.Holder(client_id="me")

# Provoked by the tests below, as (code, reason).
_SHOWN = set()


class NoNames:
    """A DNS server that knows no name."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while True:
            query, client = self._socket.recvfrom(2048)
            if not query:
                return
            # The same question; response, recursion available, NXDOMAIN.
            self._socket.sendto(query[:2] + b"\x81\x83" + query[4:6]
                                + b"\0\0\0\0\0\0" + query[12:], client)

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


class StatusTable(harness.EndToEnd):

    def expect(self, code, reason, call, *details):
        """call() fails so, and with these kinds of details."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        error = caught.exception
        self.assert_code(error, code, reason)
        self.assertTrue(error.details(), "says what happened")
        found = hotlined.error_details(error)
        for detail in details:
            self.assertIn(detail, found)
        _SHOWN.add((code.name, reason))
        return found

    def peer(self, script, context=None):
        peer = peers.Peer(script, context)
        self.addCleanup(peer.stop)
        return peer

    def acquire(self, server, target, **fields):
        return server.broker.Acquire(
            pb.AcquireRequest(target=target, **fields), timeout=10)

    def execute(self, server, url, timeout=10, **fields):
        return server.broker.Execute(pb.ExecuteRequest(url=url, **fields),
                                     timeout=timeout)

    def release(self, server, lease):
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)


class InputTest(StatusTable):

    def test_invalid_argument(self):
        server = self.start_hotlined()
        target = self.peer(peers.always()).target
        other = self.peer(peers.always()).target
        broker = server.broker

        def bad(reason, call):
            found = self.expect(Code.INVALID_ARGUMENT, reason, call,
                                "BadRequest")
            self.assertTrue(found["BadRequest"].field_violations[0].field)

        bad("BAD_TARGET", lambda: self.acquire(server, "ftp://x"))
        bad("BAD_OPTION", lambda: self.acquire(server, target, mode=9))
        bad("BAD_URL", lambda: self.execute(server, "x"))
        bad("BAD_METHOD", lambda: self.execute(server, target, method="A B"))
        bad("BAD_HEADER", lambda: self.execute(server, target, headers=[
            pb.Header(name="Connection", value=b"close")]))
        bad("BODY_TOO_LARGE", lambda: self.execute(
            server, target, method="PUT", body=b"x" * ((3 << 20) + 1)))
        bad("BAD_LEASE_ID", lambda: self.release(server, "x"))
        bad("BAD_PAGE_TOKEN", lambda: broker.Stats(
            pb.StatsRequest(page_token="x"), timeout=10))
        bad("BAD_OPTION", lambda: self.acquire(server, target, request_id="r"))
        lease = self.acquire(server, target, request_id="r",
                             holder=_ME).lease.lease_id
        bad("REQUEST_ID_CONFLICT", lambda: self.acquire(
            server, target, request_id="r", holder=_ME,
            mode=pb.MODE_EXCLUSIVE))
        bad("LEASE_TARGET_MISMATCH", lambda: self.execute(
            server, other + "/", lease_id=lease))
        self.release(server, lease)

    def test_a_target_that_is_not_known(self):
        server = self.start_hotlined()
        found = self.expect(Code.NOT_FOUND, "TARGET_UNKNOWN",
                            lambda: server.stats(target="https://Never.test"))
        self.assertEqual(found["ErrorInfo"].metadata["target"],
                         "https://never.test:443")


class LeaseTest(StatusTable):

    def test_lease_errors(self):
        server = self.start_hotlined()
        answer = threading.Event()

        def script(connection):
            while connection.read_request():
                answer.wait(30)
                connection.send(peers.ok())

        peer = self.peer(script)
        url = peer.target + "/"
        lease = self.acquire(server, peer.target).lease.lease_id
        forged = lease[:-1] + ("0" if lease[-1] != "0" else "1")
        self.expect(Code.NOT_FOUND, "LEASE_UNKNOWN",
                    lambda: self.execute(server, url, lease_id=forged))
        foreign = ("0" if lease[0] != "0" else "1") + lease[1:]
        self.expect(Code.FAILED_PRECONDITION, "LEASE_OTHER_INSTANCE",
                    lambda: self.execute(server, url, lease_id=foreign))
        running = server.broker.Execute.future(
            pb.ExecuteRequest(url=url, lease_id=lease), timeout=30)
        wait.until(lambda: [l for l in server.stats(
            view=pb.STATS_VIEW_LEASES).leases if l.busy], "the call runs")
        self.expect(Code.FAILED_PRECONDITION, "LEASE_BUSY",
                    lambda: self.execute(server, url, lease_id=lease))
        answer.set()
        self.assertEqual(running.result().status, 200)
        self.release(server, lease)
        self.expect(Code.NOT_FOUND, "LEASE_EXPIRED",
                    lambda: self.execute(server, url, lease_id=lease))
        # Over the socket the caller is its user, over TCP it is anonymous.
        with grpc.insecure_channel("unix://" + server.socket) as channel:
            local = broker_pb2_grpc.BrokerStub(channel)
            lease = local.Acquire(pb.AcquireRequest(target=peer.target),
                                  timeout=20).lease.lease_id
            self.expect(Code.PERMISSION_DENIED, "LEASE_NOT_YOURS",
                        lambda: self.execute(server, url, lease_id=lease))
            local.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)


class LineTest(StatusTable):

    def test_wait_errors(self):
        server = self.start_hotlined(
            {"pool": {"max_connections_per_target": 1,
                      "max_waiters_per_target": 1, "max_targets": 2,
                      "shards": 1}})
        target = self.peer(peers.always()).target
        held = self.acquire(server, target).lease.lease_id
        self.expect(Code.RESOURCE_EXHAUSTED, "NO_IDLE_CONNECTION",
                    lambda: self.acquire(server, target, max_wait=_NOW),
                    "RetryInfo")
        self.expect(Code.RESOURCE_EXHAUSTED, "NO_IDLE_CONNECTION",
                    lambda: self.acquire(server, target,
                                         reuse=pb.REUSE_REQUIRE_WARM),
                    "RetryInfo")
        first = server.broker.Acquire.future(
            pb.AcquireRequest(target=target, request_id="r", holder=_ME),
            timeout=30)
        wait.until(lambda: server.stats().totals.waiters == 1, "it waits")
        self.expect(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL",
                    lambda: self.acquire(server, target), "RetryInfo",
                    "WaitExplanation")
        # The same call again takes the first one's place.
        second = server.broker.Acquire.future(
            pb.AcquireRequest(target=target, request_id="r", holder=_ME),
            timeout=30)
        self.expect(Code.ABORTED, "SUPERSEDED", first.result)
        self.release(server, held)
        held = second.result().lease.lease_id
        waited = self.expect(
            Code.DEADLINE_EXCEEDED, "WAIT_TIMEOUT",
            lambda: self.execute(server, target + "/", timeout=1),
            "WaitExplanation")["WaitExplanation"]
        self.assertEqual((waited.limit, waited.limit_value, waited.place),
                         ("target_connections", 1, 1))
        # Two targets are known, and both in use: a third finds no room.
        other = self.peer(peers.always()).target
        also = self.acquire(server, other).lease.lease_id
        self.expect(Code.RESOURCE_EXHAUSTED, "TOO_MANY_TARGETS",
                    lambda: self.acquire(server,
                                         self.peer(peers.always()).target),
                    "RetryInfo")
        self.release(server, held)
        self.release(server, also)
        server.check_nothing_held()


    def test_a_wait_that_would_outlast_the_call_is_refused_at_once(self):
        def script(connection):
            while request := connection.read_request():
                connection.pause(1 if request.path == "/slow" else 0)
                connection.send(peers.ok())

        target = self.peer(script).target
        server = self.start_hotlined({"targets": [
            {"target": target, "max_connections": 1,
             "deadline_admission": True}]})
        # A lease is held for a second, as far as the broker knows.
        held = self.acquire(server, target).lease.lease_id
        self.execute(server, target + "/slow", lease_id=held)
        self.release(server, held)
        held = self.acquire(server, target).lease.lease_id
        begin = time.monotonic()
        self.expect(Code.RESOURCE_EXHAUSTED, "WONT_MAKE_DEADLINE",
                    lambda: self.execute(server, target + "/", timeout=0.4),
                    "RetryInfo", "WaitExplanation")
        self.assertLess(time.monotonic() - begin, 0.35)
        self.release(server, held)
        self.assertEqual(self.execute(server, target + "/").status, 200)
        server.check_nothing_held()


class DialTest(StatusTable):

    def test_dial_errors(self):
        names = NoNames()
        self.addCleanup(names.stop)
        foreign = certs.self_signed(self.directory)
        good = self.authority.issue("good")
        upstream = self.start_nginx({"self": foreign, "good": good})
        cut = self.peer(lambda connection: None)  # Hangs up on everybody.
        validated = "https://localhost:%d" % upstream.ports["good"]
        proxy = self.peer(peers.always(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
        server = self.start_hotlined(
            {"upstream": {"dns_servers": [names.address]},
             "targets": [{"target": validated,
                          "validate": {"path": "/404"}},
                         {"target": "https://far.example",
                          "proxy": proxy.target}]})
        acquire = lambda target: lambda: self.acquire(server, target)
        self.expect(Code.UNAVAILABLE, "DNS_FAILED",
                    acquire("http://nobody.example"), "RetryInfo")
        self.expect(Code.UNAVAILABLE, "CONNECT_FAILED",
                    acquire("http://127.0.0.1:1"), "RetryInfo")
        self.expect(Code.UNAVAILABLE, "TLS_FAILED", acquire(
            cut.target.replace("http:", "https:").replace(
                "127.0.0.1", "localhost")), "RetryInfo")
        self.expect(Code.UNAVAILABLE, "PROXY_REFUSED",
                    acquire("https://far.example"), "RetryInfo")
        self.expect(Code.FAILED_PRECONDITION, "TLS_VERIFY_FAILED",
                    acquire("https://localhost:%d" % upstream.ports["self"]))
        self.expect(Code.FAILED_PRECONDITION, "VALIDATION_FAILED",
                    acquire(validated))
        self.expect(Code.PERMISSION_DENIED, "EGRESS_DENIED",
                    acquire("http://169.254.169.254"))
        server.check_nothing_held()

    def test_an_open_circuit_refuses_calls(self):
        server = self.start_hotlined(
            {"pool": {"breaker_failures": 1, "breaker_open_for": "60s"}})
        acquire = lambda: self.acquire(server, "http://127.0.0.1:1")
        # The caller whose dial failed gets that error, …
        self.expect(Code.UNAVAILABLE, "CONNECT_FAILED", acquire, "RetryInfo")
        # … a later one the breaker's.
        waited = self.expect(Code.UNAVAILABLE, "CIRCUIT_OPEN", acquire,
                             "RetryInfo", "WaitExplanation")
        self.assertEqual(waited["WaitExplanation"].limit, "circuit_open")
        self.assertIn("refused", waited["WaitExplanation"].last_dial_error)
        self.assertGreater(waited["RetryInfo"].retry_delay.seconds, 30)
        self.expect(Code.UNAVAILABLE, "CIRCUIT_OPEN",
                    lambda: self.execute(server, "http://127.0.0.1:1/",
                                         method="POST"))
        server.check_nothing_held()

    def test_a_blocked_address_is_refused(self):
        server = self.start_hotlined()
        self.hotline(server, "block", "127.0.0.1")
        self.expect(Code.UNAVAILABLE, "ADDRESS_BLOCKED",
                    lambda: self.acquire(server, "http://127.0.0.1:1"))
        server.check_nothing_held()

    def test_alpn_mismatch(self):
        # nginx answers an offer that it shares nothing with by an alert. What
        # it shares with everybody it must not be asked for: so the alert comes
        # from here, as it would from a server that speaks only HTTP/3.
        alert = b"\x15\x03\x03\x00\x02\x02\x78"  # no_application_protocol

        def script(connection):
            connection.send(alert)
            connection.await_close()

        target = self.peer(script).target.replace("http:", "https:").replace(
            "127.0.0.1", "localhost")
        server = self.start_hotlined()
        self.expect(Code.FAILED_PRECONDITION, "ALPN_MISMATCH",
                    lambda: self.acquire(server, target))


class CallTest(StatusTable):

    def answering(self, answer):
        """The URL of an upstream that says this, and hangs up."""
        def script(connection):
            if connection.read_request():
                connection.send(answer)
        return self.peer(script).target + "/"

    def test_call_errors(self):
        server = self.start_hotlined({"execute": {"max_body_bytes": 1000}})
        self.expect(Code.INTERNAL, "PROTOCOL_ERROR", lambda: self.execute(
            server, self.answering(b"SSH-2.0-OpenSSH_9.2\r\n"),
            method="POST"))
        self.expect(Code.RESOURCE_EXHAUSTED, "RESPONSE_TOO_LARGE",
                    lambda: self.execute(
                        server, self.answering(peers.ok(b"x" * 1001))))
        found = self.expect(Code.ABORTED, "UPSTREAM_RESET", lambda: self.execute(
            server, self.answering(b""), method="POST"))
        metadata = found["ErrorInfo"].metadata
        self.assertEqual(metadata["verdict"], "SENT_UNKNOWN")
        self.assertGreater(int(metadata["bytes_written"]), 0)
        self.assertEqual(metadata["bytes_read"], "0")
        self.expect(Code.DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT",
                    lambda: self.execute(
                        server, self.peer(peers.silent).target + "/",
                        timeout=0.5))
        stream = streams.Stream(server, "http://127.0.0.1:1/", limit=0.5)
        self.addCleanup(stream.close)
        self.expect(Code.DEADLINE_EXCEEDED, "CALLER_TIMEOUT", stream.read)
        server.check_nothing_held()

    def test_a_lease_whose_connection_is_gone_sent_nothing(self):
        server = self.start_hotlined()
        gone = threading.Event()
        peer = self.peer(lambda connection: gone.wait(30))
        lease = self.acquire(server, peer.target).lease.lease_id
        gone.set()
        wait.until(lambda: server.stats().totals.counters.closed == 1,
                   "the broker has heard of it")
        found = self.expect(
            Code.UNAVAILABLE, "UPSTREAM_RESET", lambda: self.execute(
                server, peer.target + "/", method="POST", lease_id=lease))
        self.assertEqual(found["ErrorInfo"].metadata["verdict"], "NOT_SENT")
        self.assertEqual(found["ErrorInfo"].metadata["bytes_written"], "0")
        self.release(server, lease)
        server.check_nothing_held()


class TunnelTest(StatusTable):

    def test_tunnel_errors(self):
        server = self.start_hotlined()
        peer = self.peer(peers.silent)
        target = peer.target.replace("http:", "tcp:")
        broker = server.broker

        def run(*messages):
            return lambda: list(broker.Tunnel(iter(messages), timeout=20))

        data = pb.TunnelRequest(data=b"x")
        first = pb.TunnelRequest(open=pb.TunnelOpen(target=target))
        self.expect(Code.INVALID_ARGUMENT, "BAD_MESSAGE", run(data),
                    "BadRequest")
        self.expect(Code.INVALID_ARGUMENT, "BAD_MESSAGE", run(),
                    "BadRequest")
        self.expect(Code.INVALID_ARGUMENT, "BAD_MESSAGE", run(first, first),
                    "BadRequest")
        self.expect(Code.INVALID_ARGUMENT, "BAD_MESSAGE",
                    run(first, pb.TunnelRequest(data=b"x" * ((1 << 20) + 1))),
                    "BadRequest")
        shared = self.acquire(server, peer.target).lease.lease_id
        self.expect(Code.FAILED_PRECONDITION, "LEASE_NOT_EXCLUSIVE", run(
            pb.TunnelRequest(open=pb.TunnelOpen(lease_id=shared))))
        self.release(server, shared)
        answering = self.peer(peers.always())
        self.expect(Code.FAILED_PRECONDITION, "UPGRADE_REFUSED", run(
            pb.TunnelRequest(open=pb.TunnelOpen(
                target=answering.target,
                upgrade=pb.Upgrade(protocol="websocket")))))
        waiting = threading.Event()  # So that the caller does not end.

        def patient():
            yield pb.TunnelRequest(open=pb.TunnelOpen(
                target=target,
                idle_timeout=duration_pb2.Duration(nanos=100_000_000)))
            waiting.wait(20)

        try:
            self.expect(Code.DEADLINE_EXCEEDED, "IDLE_TIMEOUT",
                        lambda: list(broker.Tunnel(patient(), timeout=20)))
        finally:
            waiting.set()
        server.check_nothing_held()


class SessionTest(StatusTable):

    def test_session_item_errors(self):
        server = self.start_hotlined()
        silent = self.peer(peers.silent).target
        session = sessions.Session(server)
        self.addCleanup(session.cut)

        def bad(reason, *items):
            session.send(*items)
            status = session.next().error
            found = hotlined.details_of(status)
            self.assertEqual(status.code, Code.INVALID_ARGUMENT.value[0])
            self.assertEqual(found["ErrorInfo"].domain, "hotline")
            self.assertEqual(found["ErrorInfo"].reason, reason)
            self.assertTrue(found["BadRequest"].field_violations[0].field)
            _SHOWN.add((Code.INVALID_ARGUMENT.name, reason))

        bad("BAD_ITEM", pb.SessionItem(id=1))
        bad("BAD_ITEM_ID", pb.SessionItem(
            cancel=pb.SessionCancelRequest(id=1)))
        waits = pb.SessionItem(id=2, execute=pb.ExecuteRequest(
            url=silent + "/"))
        bad("DUPLICATE_ITEM_ID", waits, waits)


class DrainTest(StatusTable):

    def test_draining(self):
        server = self.start_hotlined({"shutdown_grace": "20s"})
        peer = self.peer(peers.always())
        lease = self.acquire(server, peer.target).lease.lease_id
        server.process.send_signal(signal.SIGTERM)
        wait.until(lambda: server.page("/readyz")[0] == 503, "it drains")
        self.expect(Code.UNAVAILABLE, "DRAINING",
                    lambda: self.acquire(server, peer.target), "RetryInfo")
        self.expect(Code.UNAVAILABLE, "DRAINING",
                    lambda: self.execute(server, peer.target + "/"),
                    "RetryInfo")
        # A lease that is held may still be used, and be given back.
        self.assertEqual(self.execute(server, peer.target + "/",
                                      lease_id=lease).status, 200)
        self.release(server, lease)
        self.assertEqual(server.stop(), 0)


class TheWholeTable(unittest.TestCase):

    def test_every_reason_that_the_contract_names_was_shown(self):
        with open("proto/hotline/v1/broker.proto", encoding="utf-8") as file:
            text = file.read()
        named = set()
        code = None
        for line in text[:text.index("\nenum ")].splitlines():
            start = re.match(r"  //   ([A-Z_]{5,}) +([A-Z].*)", line)
            more = re.match(r"  // {20,}(\S.*)", line)
            if start:
                code, rest = start.groups()
            elif more and code:
                rest = more.group(1)
            else:
                code = None
                continue
            for reason in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bDRAINING\b"
                                     r"|\bSUPERSEDED\b", rest):
                if reason not in ("NOT_SENT", "REFUSED_BY_PEER"):
                    named.add((code, reason))
        self.assertGreater(len(named), 25, named)
        self.assertEqual(named - _SHOWN, set())
        self.assertEqual(_SHOWN - named, set(), "not in the contract")


# In this order: the table is checked when all others have run.
def load_tests(loader, _tests, _pattern):
    suite = unittest.TestSuite()
    for case in (InputTest, LeaseTest, LineTest, DialTest, CallTest,
                 TunnelTest, SessionTest, DrainTest, TheWholeTable):
        suite.addTests(loader.loadTestsFromTestCase(case))
    return suite


if __name__ == "__main__":
    unittest.main()
