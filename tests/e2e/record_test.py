"""What a running hotlined tells of its calls and of itself: the access log,
spans, and the version."""

import http.server
import json
import subprocess
import threading
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import wait

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
# nginx answers with the traceparent that it got.
ECHO = 'location = /trace { return 200 "$http_traceparent"; }'


def traceparent(flags):
    return "00-%s-%s-%s" % (TRACE, CALLER, flags)


class Collector:
    """An OTLP/HTTP collector that keeps the spans."""

    def __init__(self):
        self.spans, self.resources = [], []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                collector.take(self.path, self.headers["Content-Type"],
                               json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                       Handler)
        self.url = "http://127.0.0.1:%d/v1/traces" % (
            self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, path, content_type, body):
        if path != "/v1/traces" or content_type != "application/json":
            raise ValueError("%s %s" % (path, content_type))
        for resource in body["resourceSpans"]:
            self.resources.append(attributes(resource["resource"]))
            for scope in resource["scopeSpans"]:
                self.spans += scope["spans"]

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes(of):
    """name -> value, of a span or a resource."""
    return {item["key"]: next(iter(item["value"].values()))
            for item in of["attributes"]}


class SpanTest(harness.EndToEnd):

    def start_traced(self, **tracing):
        collector = Collector()
        self.addCleanup(collector.stop)
        _, server, target = self.start_both(
            {"tracing": {"collector": collector.url, **tracing},
             "execute": {"forward_traceparent": True}}, extra=ECHO)
        return collector, server, target

    def get(self, server, url, flags=None):
        """The answer's body: the traceparent that arrived."""
        metadata = [("traceparent", traceparent(flags))] if flags else []
        return server.broker.Execute(pb.ExecuteRequest(url=url), timeout=20,
                                     metadata=metadata).body.decode()

    def test_a_sampled_call_is_a_span_between_its_caller_and_its_upstream(self):
        collector, server, target = self.start_traced()
        forwarded = self.get(server, target + "/trace?secret=1", "01")
        wait.until(lambda: collector.spans, "the span arrives", 20)
        span, = collector.spans
        self.assertEqual((span["traceId"], span["parentSpanId"]),
                         (TRACE, CALLER))
        self.assertEqual(forwarded,
                         "00-%s-%s-01" % (TRACE, span["spanId"]))
        self.assertEqual((span["name"], span["kind"]),
                         ("hotline.v1.Broker/Execute", 2))
        self.assertLess(int(span["startTimeUnixNano"]),
                        int(span["endTimeUnixNano"]))
        found = attributes(span)
        self.assertEqual(
            (found["url.path"], found["http.request.method"],
             found["http.response.status_code"], found["hotline.target"]),
            ("/trace", "GET", "200", target))
        self.assertNotIn("secret", json.dumps(span))
        self.assertEqual(collector.resources[0]["service.name"], "hotline")
        wait.until(lambda: server.metrics()[
            'hotline_spans_total{result="sent"}'] == 1, "it is counted", 20)

    def test_a_call_that_is_not_sampled_is_forwarded_as_it_came(self):
        collector, server, target = self.start_traced()
        self.assertEqual(self.get(server, target + "/trace", "00"),
                         traceparent("00"))
        self.assertEqual(self.get(server, target + "/trace"), "")
        # The one after them is sent alone.
        self.get(server, target + "/trace", "01")
        wait.until(lambda: collector.spans, "the span arrives", 20)
        self.assertEqual(len(collector.spans), 1)

    def test_a_call_without_a_trace_can_begin_one(self):
        collector, server, target = self.start_traced(new_trace_one_in=1)
        forwarded = self.get(server, target + "/trace")
        wait.until(lambda: collector.spans, "the span arrives", 20)
        span, = collector.spans
        self.assertNotIn("parentSpanId", span)
        self.assertEqual(forwarded, "00-%s-%s-01" % (span["traceId"],
                                                     span["spanId"]))

    def test_a_failed_call_has_its_reason(self):
        collector, server, _ = self.start_traced()
        with self.assertRaises(grpc.RpcError) as caught:
            self.get(server, "http://127.0.0.1:1/", "01")
        wait.until(lambda: collector.spans, "the span arrives", 20)
        span, = collector.spans
        self.assertEqual(span["status"], {
            "code": 2, "message": caught.exception.code().name})
        self.assertIn("error.type", attributes(span))

    def test_an_absent_collector_fails_no_call_and_a_reload_replaces_it(self):
        collector = Collector()
        self.addCleanup(collector.stop)
        _, server, target = self.start_both(
            {"tracing": {"collector": "http://127.0.0.1:1/v1/traces"}})
        for _ in range(20):
            self.assertEqual(self.get(server, target + "/", "01"), "hello\n")
        wait.until(lambda: "spans were not accepted" in server.log(),
                   "the log names it", 20)
        self.assertEqual(
            server.metrics()['hotline_spans_total{result="sent"}'], 0)
        server.config["tracing"]["collector"] = collector.url
        server.write_config()
        wait.until(lambda: len(collector.spans) == 20, "all arrive", 30)

    def test_what_is_queued_is_sent_before_the_end(self):
        collector, server, target = self.start_traced()
        self.get(server, target + "/trace", "01")
        self.assertEqual(server.stop(), 0)
        self.assertEqual(len(collector.spans), 1)


class AccessLogTest(harness.EndToEnd):

    def lines(self, server):
        return [line for line in server.log().splitlines()
                if " info call " in line]

    def execute(self, server, url, **fields):
        return server.broker.Execute(pb.ExecuteRequest(url=url, **fields),
                                     timeout=20)

    def test_by_default_there_is_none(self):
        _, server, target = self.start_both()
        self.execute(server, target + "/500")
        self.assertEqual(server.stop(), 0)
        self.assertEqual(self.lines(server), [])

    def test_errors_are_logged_without_headers_queries_and_bodies(self):
        _, server, target = self.start_both({"log": {"access": "errors"}})
        self.execute(server, target + "/404")
        self.execute(server, target + "/500?hidden", method="POST",
                     body=b"hidden",
                     headers=[pb.Header(name="x-id", value=b"hidden")])
        with self.assertRaises(grpc.RpcError):
            self.execute(server, "http://127.0.0.1:1/down?hidden")
        wait.until(lambda: len(self.lines(server)) == 2, "both are logged", 20)
        answered, failed = self.lines(server)
        for word in ("rpc=Execute", "target=" + target, "method=POST",
                     "path=/500", "status=500", "code=OK", "attempts=1",
                     "reused=true", "total="):
            self.assertIn(word, answered)
        for word in ("target=http://127.0.0.1:1", "path=/down",
                     "code=UNAVAILABLE", "reason="):
            self.assertIn(word, failed)
        self.assertNotIn("status=", failed)
        self.assertNotIn("hidden", server.log())

    def test_a_reload_switches_it_and_names_the_key(self):
        _, server, target = self.start_both()
        self.execute(server, target + "/")
        server.config["log"].update(access="sampled", access_one_in=1)
        server.write_config()
        wait.until(lambda: "configuration reloaded" in server.log(),
                   "the reload", 20)
        self.assertIn("configuration changed key=log.access before=none "
                      "after=sampled needs_restart=false", server.log())
        lease = server.broker.Acquire(pb.AcquireRequest(target=target),
                                      timeout=20).lease.lease_id
        self.execute(server, target + "/", lease_id=lease)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=20)
        wait.until(lambda: len(self.lines(server)) == 2, "both are logged", 20)
        acquire, execute = self.lines(server)
        self.assertIn("rpc=Acquire", acquire)
        self.assertIn("rpc=Execute", execute)
        self.assertNotIn(lease, server.log())


class VersionTest(harness.EndToEnd):

    def versions(self, program):
        """name -> version, of --version."""
        done = subprocess.run([program, "--version"], stdout=subprocess.PIPE,
                              timeout=60, check=True)
        return dict(line.split(" ", 1)
                    for line in done.stdout.decode().splitlines() if line)

    def test_the_programs_name_their_commit_and_libraries(self):
        mine = self.versions("server/hotlined")
        for name in ("hotlined", "commit", "boringssl", "nghttp2", "cares",
                     "grpc", "protobuf", "boost"):
            self.assertTrue(mine.get(name), name)
        command = self.versions("client/hotline")
        self.assertEqual(command["hotline"], mine["hotlined"])
        for name in ("commit", "grpc", "protobuf"):
            self.assertEqual(command[name], mine[name])

    def test_the_start_and_the_metrics_say_what_runs(self):
        server = self.start_hotlined()
        mine = self.versions("server/hotlined")
        self.assertIn("info starting version=%s commit=%s configuration=%s\n"
                      % (mine["hotlined"], mine["commit"], server.config_path),
                      server.log())
        sample, = [name for name in server.metrics()
                   if name.startswith("hotline_build_info{")]
        for label in ('version="%s"' % mine["hotlined"],
                      'commit="%s"' % mine["commit"],
                      'nghttp2="%s"' % mine["nghttp2"]):
            self.assertIn(label, sample)


if __name__ == "__main__":
    unittest.main()
