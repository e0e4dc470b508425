"""docs/operations.md and the alerts against what a running hotlined says: every
metric, label and value they name is there, every expression parses, and nothing
there is left out of the table."""

import os
import re
import subprocess
import tempfile
import unittest

import harness
import yaml

DOCUMENT = "docs/operations.md"
RULES = "deploy/prometheus/hotline.rules.yaml"
ROOM = "tests/deploy"
TARGET = "http://localhost:9"


class Page:
    """A scrape: types by family, and by family and label the values seen."""

    def __init__(self, text):
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        self.samples = set()
        self.labels = {family: {} for family in self.types}
        for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text,
                                       re.M):
            self.samples.add(name)
            family = self.family(name)
            for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
                if label != "le":
                    self.labels[family].setdefault(label, set()).add(value)

    def family(self, sample):
        if sample in self.types:
            return sample
        return re.sub("_(bucket|sum|count)$", "", sample)


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode()


class OperationsTest(harness.EndToEnd):

    @classmethod
    def setUpClass(cls):
        with open(DOCUMENT, encoding="utf-8") as file:
            cls.document = file.read()
        with open(RULES, encoding="utf-8") as file:
            rules = [rule for group in yaml.safe_load(file)["groups"]
                     for rule in group["rules"]]
        cls.alerts = [rule for rule in rules if "alert" in rule]
        cls.records = [rule for rule in rules if "record" in rule]

    def scrape(self):
        # Warm, so that the pool knows the target.
        server = self.start_hotlined({"targets": [{"target": TARGET,
                                                   "warm": 1}]})
        return Page(server.page("/metrics")[2])

    def expressions(self):
        found = re.findall(r"^```promql\n(.*?)^```$", self.document,
                           re.M | re.S)
        self.assertGreater(len(found), 15)
        return found

    def rows(self, heading):
        """The rows, as lists of cells, of the first table after a heading."""
        section = self.document.split("\n## " + heading + "\n")[1]
        table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", section,
                          re.M).group(1)
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
                for row in table.splitlines()]

    @staticmethod
    def labels(cell):
        """{"target": set(), "state": {"idle", …}} of "target, state: idle, …"."""
        found = {}
        values = None  # Of the label before, where its values are listed.
        for word in cell.split(", ") if cell else ():
            label, colon, first = word.partition(": ")
            if colon:
                values = found.setdefault(label, set())
                if not first.startswith("see "):
                    values.add(first.split(" ")[0])
            elif values is None:
                found[word] = set()
            elif word.startswith("or see "):
                values.clear()  # Told elsewhere.
            else:
                values.add(word.split(" ")[0])
        return found

    def assert_known(self, page, expression):
        recorded = {rule["record"] for rule in self.records}
        for name in re.findall(r"\w+:\w+:\w+", expression):
            self.assertIn(name, recorded)
        expression = re.sub(r"\w+:\w+:\w+", "", expression)
        for sample in re.findall(r"\b(?:hotline|process)_[a-z_]+", expression):
            self.assertIn(sample, page.samples, expression)
        for sample, matchers in re.findall(r"\b([a-z_]+)\s*\{(.*?)\}",
                                           expression, re.S):
            seen = page.labels[page.family(sample)]
            for label, values in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"',
                                            matchers):
                for value in values.split("|"):
                    self.assertIn(value, seen[label], expression)

    def test_every_expression_of_the_document_parses_and_finds_something(self):
        page = self.scrape()
        rules = [{"record": "r%d" % i, "expr": expression}
                 for i, expression in enumerate(self.expressions())]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}, file)
            file.flush()
            code, output = run("promtool", "check", "rules", file.name)
        self.assertEqual(code, 0, output)
        for expression in self.expressions():
            self.assert_known(page, expression)

    def test_every_metric_in_running_text_exists(self):
        page = self.scrape()
        named = re.findall(r"`((?:hotline|process)_[a-z_]+)`", self.document)
        self.assertGreater(len(named), 10)
        for name in named:
            self.assertIn(name, page.types)

    def test_the_table_of_metrics_is_the_page(self):
        page = self.scrape()
        told = set()
        for names, labels, kind in self.rows("All metrics"):
            expected = self.labels(labels)
            for name in re.findall(r"`(\w+)`", names):
                family = "hotline_" + name
                told.add(family)
                self.assertEqual(page.types.get(family),
                                 re.match(r"\w+", kind).group(), family)
                self.assertEqual(set(page.labels[family]), set(expected),
                                 family)
                for label, values in expected.items():
                    if values:
                        self.assertEqual(page.labels[family][label], values,
                                         family)
        self.assertEqual(told, {family for family in page.types
                                if family.startswith("hotline_")})

    def test_every_reason_for_a_close_is_explained(self):
        page = self.scrape()
        told = {reason for row in self.rows("Connections drop often")
                for reason in re.findall(r"`(\w+)`", row[0])}
        self.assertEqual(
            told, page.labels["hotline_connections_closed_total"]["reason"])

    def test_every_result_that_is_explained_exists(self):
        page = self.scrape()
        told = {result for row in self.rows("Calls fail")
                for result in re.findall(r"`(\w+)`", row[0])}
        self.assertGreater(len(told), 8)
        self.assertLessEqual(
            told, page.labels["hotline_executes_total"]["result"])

    def test_the_rules_speak_of_what_exists(self):
        page = self.scrape()
        self.assertGreaterEqual(len(self.alerts), 8)
        for rule in self.alerts + self.records:
            self.assert_known(page, rule["expr"])
        for rule in self.records:
            self.assertRegex(rule["record"],
                             r"^(instance_target|instance|target):hotline_\w+"
                             r":(rate5m|ratio_rate5m|p99_rate5m|sum)$")
        for rule in self.alerts:
            (section,) = re.findall(r'operations\.md, "(.*?)"',
                                    rule["annotations"]["description"])
            self.assertIn("\n## " + section + "\n", self.document)
            anchor = re.sub("[^a-z0-9 -]", "", section.lower())
            self.assertEqual(rule["annotations"]["runbook_url"],
                             DOCUMENT + "#" + anchor.replace(" ", "-"))

    def test_each_alert_fires_when_it_should_and_only_then(self):
        code, output = run("promtool", "check", "rules", RULES)
        self.assertEqual(code, 0, output)
        with open(os.path.join(ROOM, "rules_test.yaml"),
                  encoding="utf-8") as file:
            tests = yaml.safe_load(file)
        tests["rule_files"] = [os.path.abspath(RULES)]
        firing, quiet = set(), set()
        for test in tests["tests"]:
            for case in test["alert_rule_test"]:
                (firing if case["exp_alerts"] else quiet).add(
                    case["alertname"])
        names = {rule["alert"] for rule in self.alerts}
        self.assertEqual((firing, quiet), (names, names))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(tests, file)
            file.flush()
            code, output = run("promtool", "test", "rules", file.name)
        self.assertEqual(code, 0, output)


if __name__ == "__main__":
    unittest.main()
