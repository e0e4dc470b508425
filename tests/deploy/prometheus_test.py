"""Every query of the dashboard, and every recording rule, against a Prometheus
that scrapes a hotlined at work: each finds something. And what it finds is what
the upstream has logged."""

import collections
import json
import re
import subprocess
import unittest
import urllib.error

import yaml
from hotline.v1 import broker_pb2 as pb

import callers
import harness
import wait
from prometheus_server import RULES, Prometheus

DASHBOARD = "deploy/grafana/hotline.json"


class PrometheusTest(harness.EndToEnd):

    def setUp(self):
        super().setUp()
        self.upstream, self.server, self.target = self.start_both(
            {"pool": {"max_connections_per_target": 2}})
        self.load = callers.Load(4, self.work)
        self.addCleanup(self.load.stop)
        self.prometheus = Prometheus(self.directory,
                                     {"hotlined": self.server.http})
        self.addCleanup(self.prometheus.stop)

    def work(self, number):
        """Calls that succeed, calls that cannot, leases, and some waiting."""
        broker = self.server.broker
        if number % 5 == 0:
            return broker.Execute(pb.ExecuteRequest(
                url="http://127.0.0.1:1/"), timeout=5)
        if number % 5 == 1:
            lease = broker.Acquire(pb.AcquireRequest(target=self.target),
                                   timeout=5).lease.lease_id
            # Its connection is closed, so that there are new ones.
            return broker.Release(pb.ReleaseRequest(
                lease_id=lease, outcome=pb.OUTCOME_DISCARD), timeout=5)
        path = ("/", "/404", "/500")[number % 3]
        # Long enough that none is cut off, which nginx alone would count.
        return broker.Execute(pb.ExecuteRequest(url=self.target + path),
                              timeout=60)

    def await_numbers(self, expressions):
        """Each expression finds a number, by and by."""
        missing = dict(expressions)

        def all_found():
            for name in list(missing):
                if self.prometheus.numbers(missing[name]):
                    del missing[name]
            return not missing

        try:
            wait.until(all_found, "data", 60)
        except AssertionError:
            self.fail("no data: %s" % missing)

    def test_every_query_of_the_dashboard_finds_something(self):
        with open(DASHBOARD, encoding="utf-8") as file:
            dashboard = json.load(file)
        expressions = {}
        variables = [each for each in dashboard["templating"]["list"]
                     if each["type"] == "query"]
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                name = "%s/%s" % (panel["title"], target["refId"])
                expressions[name] = target["expr"]
        self.assertGreater(len(expressions), 25)
        for variable in variables:
            selector, label = re.fullmatch(
                r"label_values\((.*), (\w+)\)",
                variable["query"]["query"]).groups()
            expressions["$" + variable["name"]] = (
                'count by (%s) (%s) > 0' % (label, selector))
        for name, expression in expressions.items():
            for variable in variables:
                expression = expression.replace("$" + variable["name"], ".+")
            expression = expression.replace("$__rate_interval", "1m")
            self.assertNotIn("$", expression)
            expressions[name] = expression
        self.await_numbers(expressions)

    def test_the_panels_lie_side_by_side(self):
        with open(DASHBOARD, encoding="utf-8") as file:
            panels = json.load(file)["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(taken & cells, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells

    def test_every_recording_rule_finds_something_and_none_fails(self):
        with open(RULES, encoding="utf-8") as file:
            records = [rule["record"] for group in
                       yaml.safe_load(file)["groups"]
                       for rule in group["rules"] if "record" in rule]
        self.assertGreater(len(records), 10)
        self.await_numbers({name: name for name in records})
        for group in self.prometheus.get("rules")["groups"]:
            for rule in group["rules"]:
                self.assertEqual((rule["health"], rule.get("lastError")),
                                 ("ok", None), rule["name"])

    def logged(self):
        """Answers by the class of their status, as nginx has logged them."""
        return collections.Counter(
            request.status[0] + "xx"
            for request in self.upstream.requests("good"))

    def test_status_classes_are_those_that_nginx_has_logged(self):
        wait.until(lambda: self.load.done() > 500 or self.load.bugs,
                   "a load", 120)
        # While it lasts.
        done = subprocess.run(["promtool", "check", "metrics"],
                              input=self.server.page("/metrics")[2].encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        self.assertEqual((done.returncode, done.stdout.decode()), (0, ""))
        self.load.stop()
        query = ('hotline_upstream_responses_total{target="%s",'
                 'status_class="%%s"}' % self.target)

        def scraped():
            return {name: sum(self.prometheus.numbers(query % name))
                    for name in ("2xx", "4xx", "5xx")}
        self.assertEqual(set(self.logged()), {"2xx", "4xx", "5xx"})
        wait.until(lambda: scraped() == self.logged(),
                   "Prometheus and the log agree", 30)

    def test_what_is_asked_for_wrongly_is_not_found(self):
        """So that finding something means something."""
        wait.until(lambda: self.prometheus.numbers("hotline_build_info"),
                   "a scrape", 30)
        self.assertEqual(self.prometheus.numbers("hotline_bild_info"), [])
        with self.assertRaises(urllib.error.HTTPError):
            self.prometheus.numbers("sum(hotline_waiters")


if __name__ == "__main__":
    unittest.main()
