"""The metrics page agrees with the calls that were made."""

import collections
import subprocess
import unittest

import grpc
from hotline.v1 import broker_pb2 as pb

import harness
import wait


class MetricsTest(harness.EndToEnd):

    def scrape(self, server):
        status, content_type, body = server.page("/metrics")
        self.assertEqual(status, 200)
        # Newer Prometheus servers insist on it; promtool does not look.
        self.assertEqual(content_type.split(";")[0], "text/plain")
        self.assertIn("version=0.0.4", content_type)
        return body

    def check(self, body):
        done = subprocess.run(["promtool", "check", "metrics"],
                              input=body.encode(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        self.assertEqual((done.returncode, done.stdout.decode()), (0, ""))

    def test_promtool_accepts_an_empty_page_and_a_full_one(self):
        _, server, target = self.start_both()
        self.check(self.scrape(server))
        server.broker.Execute(pb.ExecuteRequest(url=target + "/"), timeout=10)
        self.check(self.scrape(server))

    def test_counters_agree_with_what_was_done(self):
        upstream, server, target = self.start_both(
            {"pool": {"max_connections_per_target": 1}})
        for path in ("/", "/404", "/500"):
            for _ in range(5):
                server.broker.Execute(pb.ExecuteRequest(url=target + path),
                                      timeout=10)
        lease = server.broker.Acquire(pb.AcquireRequest(target=target),
                                      timeout=10).lease.lease_id
        with self.assertRaises(grpc.RpcError):
            server.broker.Acquire(pb.AcquireRequest(target=target), timeout=1)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)
        dead = "http://127.0.0.1:1"
        with self.assertRaises(grpc.RpcError):
            server.broker.Execute(
                pb.ExecuteRequest(url=dead + "/",
                                  retry=pb.RetryPolicy(max_attempts=1)),
                timeout=10)

        samples = server.metrics()

        def total(name, *labels):
            found = [value for sample, value in samples.items()
                     if sample.split("{")[0] == name
                     and all(label in sample for label in labels)]
            self.assertTrue(found, "%s %s" % (name, labels))
            return sum(found)

        mine = 'target="%s"' % target
        stats = server.stats(target=target)
        counters = stats.targets[0].counters
        self.assertEqual(total("hotline_executes_total", mine), 15)
        self.assertEqual(counters.executes, 15)
        self.assertEqual(total("hotline_acquires_total", mine),
                         counters.acquires)
        self.assertEqual(total("hotline_connections_opened_total", mine), 1)
        self.assertEqual(upstream.accepted_connections(), 1)
        self.assertEqual(total("hotline_dials_total", mine), counters.dials)
        self.assertEqual(total("hotline_connection_reuse_total", mine),
                         counters.reused)
        self.assertEqual(total("hotline_connections", mine, 'state="idle"'), 1)
        self.assertEqual(total("hotline_connections", mine), 1)
        self.assertEqual(total("hotline_max_connections", mine), 1)
        self.assertEqual(total("hotline_waiters", mine), 0)
        self.assertEqual(total("hotline_execute_seconds_count", mine), 15)
        self.assertEqual(total("hotline_lease_seconds_count", mine), 16)
        self.assertGreaterEqual(
            total("hotline_errors_total", 'target="%s"' % dead,
                  'class="network"'), 1)
        self.assertEqual(total("hotline_rpc_seconds_count",
                               'method="Release"', 'code="OK"'), 1)
        self.assertEqual(total("hotline_build_info"), 1)

    def test_status_classes_and_bytes_agree_with_the_upstreams_log(self):
        upstream, server, target = self.start_both()
        for path, times in (("/", 7), ("/404", 5), ("/500", 3)):
            for _ in range(times):
                server.broker.Execute(pb.ExecuteRequest(url=target + path),
                                      timeout=10)
        wait.until(lambda: len(upstream.requests("good")) == 15,
                   "nginx has logged them", 10)
        logged = collections.Counter(
            request.status[0] + "xx" for request in upstream.requests("good"))
        mine = 'target="%s"' % target
        samples = server.metrics()
        counted = {name: samples["hotline_upstream_responses_total{%s,"
                                 'status_class="%s"}' % (mine, name)]
                   for name in ("2xx", "4xx", "5xx")}
        self.assertEqual(counted, dict(logged))
        self.assertEqual(counted, {"2xx": 7, "4xx": 5, "5xx": 3})
        self.assertEqual(
            samples["hotline_first_byte_seconds_count{%s}" % mine], 15)
        for direction in ("sent", "received"):
            self.assertGreater(samples['hotline_upstream_bytes_total{%s,'
                                       'direction="%s"}' % (mine, direction)],
                               15 * 20)
        self.assertEqual(samples["hotline_calls_in_flight{%s}" % mine], 0)

    def test_leases_urls_and_clients_are_in_no_label(self):
        _, server, target = self.start_both()
        lease = server.broker.Acquire(
            pb.AcquireRequest(target=target, holder=pb.Holder(
                client_id="somebody")), timeout=10).lease.lease_id
        server.broker.Execute(
            pb.ExecuteRequest(lease_id=lease, url=target + "/404?secret"),
            timeout=10)
        body = self.scrape(server)
        for secret in (lease, "somebody", "secret", "/404"):
            self.assertNotIn(secret, body)
        server.broker.Release(pb.ReleaseRequest(lease_id=lease), timeout=10)


if __name__ == "__main__":
    unittest.main()
