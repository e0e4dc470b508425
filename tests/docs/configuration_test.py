#!/usr/bin/env python3
"""The reference and the schema of the configuration are current, and the schema
accepts what hotlined accepts.

    configuration_test.py MARKDOWN SCHEMA   as //server/config:reference writes
                                            them
"""

import glob
import json
import re
import sys
import unittest

import jsonschema
import yaml

MARKDOWN, SCHEMA = sys.argv[1:3]
STALE = ("%s is stale: bazel build %s, and copy bazel-bin/%s over it")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def rows(path):
    """The columns of each row of a table of config_test's."""
    for line in read(path).splitlines():
        if line and not line.startswith("#"):
            yield re.split(r"\t+", line)


class ReferenceTest(unittest.TestCase):

    def test_the_files_in_the_tree_are_what_is_generated(self):
        for mine, generated, target in (
                ("docs/configuration.md", MARKDOWN, "//docs:configuration"),
                ("deploy/hotline.schema.json", SCHEMA, "//deploy:schema")):
            self.assertEqual(read(mine), read(generated),
                             STALE % (mine, target, generated))

    def test_the_reference_has_every_key(self):
        headings = set(re.findall(r"^### (\S+)$", read(MARKDOWN), re.M))
        keys = {row[0] for row in rows("tests/server/config/keys.tsv")}
        self.assertEqual(headings, keys)

    def test_every_key_is_explained(self):
        for heading, text in re.findall(
                r"^### (\S+)\n\n[^\n]+\n\n(.*?)(?=^##|\Z)", read(MARKDOWN),
                re.M | re.S):
            self.assertTrue(text.strip(), heading)


class SchemaTest(unittest.TestCase):

    def setUp(self):
        schema = json.loads(read(SCHEMA))
        jsonschema.Draft7Validator.check_schema(schema)
        self.validator = jsonschema.Draft7Validator(schema)

    def errors(self, text):
        return ["%s: %s" % (error.json_path, error.message)
                for error in self.validator.iter_errors(yaml.safe_load(text))]

    def test_the_shipped_configurations_are_valid(self):
        files = ["deploy/hotline.example.yaml",
                 *glob.glob("deploy/kubernetes/**/hotline.yaml",
                            recursive=True)]
        self.assertGreaterEqual(len(files), 6)
        for path in files:
            self.assertEqual(self.errors(read(path)), [], path)

    def test_every_key_can_be_set(self):
        for key, text, _ in rows("tests/server/config/keys.tsv"):
            self.assertEqual(self.errors(text), [], key)

    def test_values_with_units_and_references_are_valid(self):
        accepted = 0
        for table, column in (("values", 1), ("references", 1)):
            for row in rows("tests/server/config/%s.tsv" % table):
                if row[column].startswith("t.yaml:"):
                    continue
                accepted += 1
                self.assertEqual(self.errors(row[0]), [], row[0])
        self.assertGreaterEqual(accepted, 30)

    def test_empty_sections_are_valid(self):
        self.assertEqual(self.errors(""), [])
        self.assertEqual(self.errors("pool:\nlog: {}\ntargets:\n"), [])

    def test_mistakes_are_found(self):
        for text in ("pol: {}", "pool: 3", "pool: {shards: '3'}",
                     "pool: {max_conections: 3}", "pool: {max_connections: 0}",
                     "pool: {max_connections: 10000000}",
                     "pool: {idle_timeout: 45}", "pool: {idle_timeout: 45d}",
                     "pool: {idle_timeout: ''}", "log: {level: loud}",
                     "listen: {grpc: '127.0.0.1:1'}", "listen: {grpc: [5]}",
                     "listen: {insecure: 'true'}", "targets: [{warm: 1}]",
                     "targets: [x]", "policy: {rules: [{rpcs: [Stats]}]}",
                     "overload: {max_memory_bytes: 64Mi}",
                     "overload: {max_memory_bytes: -1}",
                     "tls_profiles: [{name: a, min_version: '1.4'}]"):
            self.assertNotEqual(self.errors(text), [], text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
