"""Invalid input to every RPC: a typed error and no effect."""

import collections
import os
import types
import unittest

import grpc
import yaml
from google.protobuf import duration_pb2
from hotline.v1 import broker_pb2 as pb

import harness
import hotlined
import http2
import http2_frames
import peers
import sessions
import wait

# A request and the error that must come back. `field` is BadRequest's; "" for
# an error that is not about one.
Row = collections.namedtuple("Row", "rpc request code reason field")

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

_SPAN = duration_pb2.Duration

# Beyond the largest duration there is; of two minds; zero; gone by.
_BAD_SPANS = [_SPAN(seconds=315576000001), _SPAN(seconds=1, nanos=-1),
              _SPAN(seconds=-1, nanos=1), _SPAN(nanos=1000000000),
              _SPAN(seconds=-1)]


def rows_of(table, at_least):
    """A list of bad_input.yaml, which must not have lost a row."""
    path = os.path.join(os.path.dirname(__file__), "bad_input.yaml")
    with open(path, encoding="utf-8") as file:
        rows = yaml.safe_load(file)[table]
    assert len(rows) >= at_least, table
    return rows


def targets(host):
    """Invalid targets."""
    too_long = "http://" + "a.b" * 90
    return [text.replace("HOST", host)
            for text in rows_of("targets", 52)] + [too_long]


def paths():
    """Paths that make the URL of a valid origin invalid."""
    return rows_of("paths", 10) + ["/" + "a" * 16384]


def headers():
    """(name, value, the part that is invalid)."""
    return ([(name, b"x", "name") for name in rows_of("header_names", 23)]
            + [(name, value.encode("latin-1"), "value")
               for name, value in rows_of("header_values", 13)])


def lease_ids(lease):
    """(what is no lease of ours, how it is called)."""
    other = ("0" if lease[0] != "0" else "1") + lease[1:]
    forged = lease[:-1] + ("0" if lease[-1] != "0" else "1")
    bad = ["", "x", lease[:-1], lease + "0", lease.upper() + " ",
           "g" * len(lease), "\x00" * len(lease), " " + lease[1:],
           "z" + lease[1:], "\u00e9" * 22, "0" * 100000]
    return ([(text, INVALID, "BAD_LEASE_ID", "lease_id") for text in bad]
            + [(forged, NOT_FOUND, "LEASE_UNKNOWN", ""),
               # No such shard; no such slot.
               (lease[:8] + "ffff" + lease[12:], NOT_FOUND, "LEASE_UNKNOWN",
                ""),
               (lease[:12] + "ffffffff" + lease[20:], NOT_FOUND,
                "LEASE_UNKNOWN", ""),
               (other, PRECONDITION, "LEASE_OTHER_INSTANCE", "")])


def acquire_rows(host):
    good = "http://" + host
    rows = [Row("Acquire", pb.AcquireRequest(target=target), INVALID,
                "BAD_TARGET", "target") for target in targets(host)]

    def option(field, **fields):
        fields.setdefault("target", good)
        rows.append(Row("Acquire", pb.AcquireRequest(**fields), INVALID,
                        "BAD_OPTION", field))

    option("mode", mode=7)
    option("mode", mode=-1)
    option("reuse", reuse=9)
    for span in _BAD_SPANS + [_SPAN()]:
        option("lease_ttl", lease_ttl=span)
    for span in _BAD_SPANS:
        option("max_wait", max_wait=span)
    option("request_id", request_id="x" * 65)
    for field in ("client_id", "purpose", "trace"):
        option("holder." + field, holder=pb.Holder(**{field: "x" * 129}))
    option("options.sni", options=pb.ConnectionOptions(sni="a.test"))
    for sni in ("a b", "a..b", "127.0.0.1", "-a", "a" * 254, "a\x00b"):
        option("options.sni", target="https://" + host,
               options=pb.ConnectionOptions(sni=sni))
    for group in ("a b", "a/b", "\u00e9", "x" * 65, "a\n"):
        option("options.pool_group",
               options=pb.ConnectionOptions(pool_group=group))
    return rows


def lease_rows(lease, good):
    rows = []
    for text, code, reason, field in lease_ids(lease):
        rows.append(Row("Release", pb.ReleaseRequest(lease_id=text), code,
                        reason, field))
        rows.append(Row("Renew", pb.RenewRequest(lease_id=text), code, reason,
                        field))
        if text:
            rows.append(Row("Execute", pb.ExecuteRequest(
                lease_id=text, url=good + "/"), code, reason, field))
    for outcome in (4, -1, 1000):
        rows.append(Row("Release", pb.ReleaseRequest(
            lease_id=lease, outcome=outcome), INVALID, "BAD_OPTION",
                        "outcome"))
    for span in _BAD_SPANS + [_SPAN()]:
        rows.append(Row("Renew", pb.RenewRequest(
            lease_id=lease, lease_ttl=span), INVALID, "BAD_OPTION",
                        "lease_ttl"))
    for url in ("http://127.0.0.1:1/", good.replace("http", "https") + "/",
                good.replace("127.0.0.1", "localhost") + "/"):
        rows.append(Row("Execute", pb.ExecuteRequest(lease_id=lease, url=url),
                        INVALID, "LEASE_TARGET_MISMATCH", "url"))
    rows.append(Row("Execute", pb.ExecuteRequest(
        lease_id=lease, url=good + "/",
        options=pb.ConnectionOptions(pool_group="g")), INVALID, "BAD_OPTION",
                    "options"))
    return rows


def execute_rows(host):
    good = "http://" + host
    # What is wrong with a target is wrong with a URL, but for its end.
    ends = {good + end for end in ("/", "/path", "?q")}
    rows = [Row("Execute", pb.ExecuteRequest(url=url), INVALID, "BAD_URL",
                "url") for url in targets(host)
            + [good + path for path in paths()] if url not in ends]

    def bad(reason, field, **fields):
        rows.append(Row("Execute", pb.ExecuteRequest(url=good + "/", **fields),
                        INVALID, reason, field))

    for method in (" ", "GET ", "G T", "G\r\nT", "G\x00T", "CONNECT",
                   "connect", "GET/", "\u00dc", "M" * 65):
        bad("BAD_METHOD", "method", method=method)
    for name, value, part in headers():
        bad("BAD_HEADER", "headers[1]." + part, headers=[
            pb.Header(name="X-Fine", value=b"1"),
            pb.Header(name=name, value=value)])
    bad("BAD_HEADER", "headers", headers=[
        pb.Header(name="X-%d" % i, value=b"") for i in range(129)])
    bad("BAD_HEADER", "headers", headers=[
        pb.Header(name="X-%d" % i, value=b"v" * 6600) for i in range(10)])
    bad("BODY_TOO_LARGE", "body", method="POST", body=b"x" * ((3 << 20) + 1))
    for span in _BAD_SPANS + [_SPAN()]:
        bad("BAD_OPTION", "timeout", timeout=span)
    for attempts in (-1, 11, 1 << 30):
        bad("BAD_OPTION", "retry.max_attempts",
            retry=pb.RetryPolicy(max_attempts=attempts))
    for size in (-1, (3 << 20) + 1, 1 << 62):
        bad("BAD_OPTION", "max_response_bytes", max_response_bytes=size)
    bad("BAD_OPTION", "options.sni", options=pb.ConnectionOptions(sni="a.test"))
    bad("BAD_OPTION", "options.pool_group",
        options=pb.ConnectionOptions(pool_group="a b"))
    return rows


def stats_rows():
    rows = []

    def bad(reason, field, **fields):
        rows.append(Row("Stats", pb.StatsRequest(**fields), INVALID, reason,
                        field))

    bad("BAD_OPTION", "view", view=5)
    bad("BAD_OPTION", "view", view=-3)
    for size in (-1, 1001, 1 << 30):
        bad("BAD_OPTION", "page_size", page_size=size)
    for token in ("x", "2", "2.", "2.zz", "2.abc", "4.00", "\x00", "2.AB",
                  "9" * 10000):
        bad("BAD_PAGE_TOKEN", "page_token", view=pb.STATS_VIEW_TARGETS,
            page_token=token)
    for target in ("x", "http://", "http://localhost/", "ftp://x"):
        bad("BAD_TARGET", "target", target=target)
    return rows


def watch_rows():
    def bad(reason, field, **fields):
        return Row("WatchEvents", pb.WatchEventsRequest(**fields), INVALID,
                   reason, field)

    return ([bad("BAD_OPTION", "kinds", kinds=[kind]) for kind in (0, -1, 1000)]
            + [bad("BAD_TARGET", "target", target=target)
               for target in ("x", "http://", "http://localhost/", "ftp://x")])


def stream_rows(rows):
    """The same mistakes, made in the heads of the RPCs that are streams."""
    out = []
    for row in rows:
        said = {field.name: value for field, value in row.request.ListFields()}
        if row.rpc == "Execute" and row.field not in ("body",
                                                      "max_response_bytes"):
            out.append(row._replace(
                rpc="ExecuteStream", request=pb.ExecuteStreamRequest(
                    head=pb.ExecuteStreamHead(**said))))
        elif row.rpc == "Acquire" and row.field in ("target", "options.sni"):
            out.append(row._replace(rpc="Tunnel", request=pb.TunnelRequest(
                open=pb.TunnelOpen(**said))))
    return out


def session_rows(rows):
    """The same mistakes, as items of a session."""
    kinds = {"Acquire": "acquire", "Release": "release", "Renew": "renew",
             "Execute": "execute"}
    return [row._replace(rpc="Session", request=pb.SessionItem(
        **{kinds[row.rpc]: row.request})) for row in rows if row.rpc in kinds]


class BadInputTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream = self.start_nginx({"plain": None})
        self.server = self.start_hotlined()
        self.host = "127.0.0.1:%d" % self.upstream.ports["plain"]
        # Something that could be disturbed: a lease, and an idle connection.
        self.lease = self.server.broker.Acquire(
            pb.AcquireRequest(target="http://" + self.host),
            timeout=10).lease.lease_id
        self.server.broker.Execute(
            pb.ExecuteRequest(url="http://%s/" % self.host), timeout=10)
        # A dial counts once its connection has stood for a second.
        wait.until(lambda: self.dials() == 2, "both dials count")

    def dials(self):
        return self.server.stats().totals.counters.dials

    def picture(self):
        """All that a call could change, but for counts of failed Executes."""
        stats = self.server.stats()
        for counters in ([stats.totals.counters]
                         + [t.counters for t in stats.targets]):
            counters.executes = 0
            counters.execute_failures = 0
        leases = self.server.stats(view=pb.STATS_VIEW_LEASES).leases
        connections = self.server.stats(
            view=pb.STATS_VIEW_CONNECTIONS).connections
        return (stats, [(l.connection_id, l.busy) for l in leases],
                [(c.connection_id, c.state, c.active, c.uses)
                 for c in connections])

    def check_fields(self, details, row):
        fields = [v.field for v in
                  details["BadRequest"].field_violations
                 ] if "BadRequest" in details else []
        self.assertEqual(fields, [row.field] if row.field else [])

    def check_item(self, session, row):
        kind = row.request.WhichOneof("call")
        result, = session.ask(**{kind: [getattr(row.request, kind)]})
        self.assertEqual((result.error.code, sessions.reason(result)),
                         (row.code.value[0], row.reason))
        self.check_fields(hotlined.details_of(result.error), row)

    def check(self, row):
        call = getattr(self.server.broker, row.rpc)
        with self.assertRaises(grpc.RpcError) as caught:
            if row.rpc in ("ExecuteStream", "Tunnel"):
                list(call(iter([row.request]), timeout=10))
            elif row.rpc == "WatchEvents":
                list(call(row.request, timeout=10))
            else:
                call(row.request, timeout=10)
        error = caught.exception
        self.assert_code(error, row.code, row.reason)
        self.check_fields(hotlined.error_details(error), row)
        # Under 4 KiB in all, or it is lost on the way.
        size = sum(len(k) + len(v) for k, v in error.trailing_metadata())
        self.assertLess(size, 4096)

    def test_each_row_gets_its_error_and_nothing_else_happens(self):
        rows = (acquire_rows(self.host)
                + lease_rows(self.lease, "http://" + self.host)
                + execute_rows(self.host) + stats_rows() + watch_rows())
        rows += stream_rows(rows) + session_rows(rows)
        counts = collections.Counter(row.rpc for row in rows)
        self.assertGreaterEqual(len(rows), 100)
        self.assertEqual(set(counts),
                         {m.name for m in pb.DESCRIPTOR.services_by_name[
                             "Broker"].methods}, "every RPC has rows")
        before = self.picture()
        session = sessions.Session(self.server)
        for row in rows:
            text = str(row.request)
            with self.subTest(row.rpc, request=text[:200]):
                if row.rpc == "Session":
                    self.check_item(session, row)
                else:
                    self.check(row)
        self.assertEqual(session.close(), [])
        self.assertEqual(self.picture(), before)
        self.assertEqual(self.upstream.accepted_connections(), 2)
        self.assertEqual(len(self.upstream.requests("plain")), 1)
        print("%d rows: %s" % (len(rows), dict(counts)))
        # And what was there still works.
        answer = self.server.broker.Execute(pb.ExecuteRequest(
            lease_id=self.lease, url="http://%s/" % self.host), timeout=10)
        self.assertEqual(answer.status, 200)
        self.assertFalse(self.server.broker.Release(
            pb.ReleaseRequest(lease_id=self.lease),
            timeout=10).already_released)
        self.server.check_nothing_held()

    def test_malformed_messages_are_refused_without_effect(self):
        before = self.picture()
        # The last is a string that is not UTF-8, also as Stats' second field.
        garbage = [b"\xff" * 10, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab",
                   b"\x0a\x02\xc3\x28\x12\x02\xc3\x28"]
        for rpc in ("Acquire", "Release", "Renew", "Execute", "Stats"):
            call = self.server.channel.unary_unary(
                "/hotline.v1.Broker/" + rpc)
            for message in garbage:
                with self.subTest(rpc, message=message):
                    with self.assertRaises(grpc.RpcError) as caught:
                        call(message, timeout=10)
                    self.assertEqual(caught.exception.code(),
                                     grpc.StatusCode.INVALID_ARGUMENT)
                    self.assertEqual(hotlined.reason(caught.exception),
                                     "BAD_MESSAGE")
                    self.assertIn(rpc + "Request", caught.exception.details())
        with self.assertRaises(grpc.RpcError) as caught:
            self.server.channel.unary_unary("/hotline.v1.Broker/Nothing")(
                b"", timeout=10)
        self.assertEqual(caught.exception.code(),
                         grpc.StatusCode.UNIMPLEMENTED)
        self.assertEqual(self.picture(), before)
        self.server.broker.Release(pb.ReleaseRequest(lease_id=self.lease),
                                   timeout=10)


class TraceTest(harness.EndToEnd):

    def test_metadata_never_becomes_a_request(self):
        seen = []

        def script(connection):
            while request := connection.read_request():
                seen.append((request.path, request.headers))
                connection.send(peers.ok(request.path.encode()))

        peer = peers.Peer(script)
        self.addCleanup(peer.stop)
        server = self.start_hotlined({"execute": {"forward_traceparent": True}})
        trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        stolen = b"\r\n\r\nGET /stolen HTTP/1.1\r\nHost: a\r\n\r\n"

        def answer_to(traces):
            """By hand: a library would not."""
            message = pb.ExecuteRequest(url=peer.target + "/first")
            with http2.connect(server.address) as connection:
                connection.sendall(http2.call(
                    b"/hotline.v1.Broker/Execute", message.SerializeToString(),
                    [(b"traceparent", trace) for trace in traces]))
                reader = http2_frames.Reader(types.SimpleNamespace(
                    read_some=lambda: connection.recv(65536)))
                frame = reader.next()
                while frame[2] != 1:
                    frame = reader.next()
                return frame

        def send(*traces):
            before = len(seen)
            self.assertEqual(answer_to(traces)[0], http2_frames.HEADERS)
            # The next caller's answer is its own.
            answer = server.broker.Execute(
                pb.ExecuteRequest(url=peer.target + "/mine"), timeout=20)
            self.assertEqual(answer.body, b"/mine")
            self.assertEqual([path for path, _ in seen[before:]],
                             ["/first", "/mine"])
            return seen[before][1].get("traceparent")

        # A malformed request (RFC 9113, section 8.2.1) is a stream error.
        for malformed in (trace + stolen, stolen, trace + b"\n"):
            with self.subTest(malformed):
                kind, _, _, payload = answer_to([malformed])
                self.assertEqual(kind, http2_frames.RST_STREAM)
                self.assertEqual(int.from_bytes(payload, "big"), 1)
                self.assertEqual(seen, [])
        for bad in (b"x", trace.upper()):
            with self.subTest(bad):
                self.assertIsNone(send(bad))
        self.assertIsNone(send(trace, trace))
        self.assertEqual(send(trace), trace.decode())


if __name__ == "__main__":
    unittest.main()
