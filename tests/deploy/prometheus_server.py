"""A real Prometheus."""

import json
import math
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import yaml

import wait

RULES = "deploy/prometheus/hotline.rules.yaml"


class Prometheus:
    """Scrapes hotlineds each second: instance -> address. `rules`: a file."""

    def __init__(self, directory, instances, rules=RULES):
        self._port = wait.free_port()
        config = os.path.join(directory, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as file:
            yaml.safe_dump({
                "global": {"scrape_interval": "1s",
                           "evaluation_interval": "1s"},
                "rule_files": [os.path.abspath(rules)],
                "scrape_configs": [{
                    "job_name": "hotline",
                    "static_configs": [
                        {"targets": [address], "labels": {"instance": name}}
                        for name, address in instances.items()]}],
            }, file)
        self._process = wait.start(
            ["prometheus", "--config.file=" + config,
             "--storage.tsdb.path=" + os.path.join(directory, "tsdb"),
             "--web.listen-address=127.0.0.1:%d" % self._port,
             "--log.level=error"], stderr=subprocess.DEVNULL)
        wait.until(lambda: self._process.poll() is not None
                   or self._ready(), "Prometheus is ready", 30)
        if self._process.poll() is not None:
            raise RuntimeError("Prometheus did not start")

    def _ready(self):
        try:
            urllib.request.urlopen("http://127.0.0.1:%d/-/ready" % self._port,
                                   timeout=10).close()
            return True
        except urllib.error.URLError:
            return False

    def get(self, path, **parameters):
        url = "http://127.0.0.1:%d/api/v1/%s?%s" % (
            self._port, path, urllib.parse.urlencode(parameters))
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def numbers(self, expression):
        """The values of all series that have one."""
        found = [float(each["value"][1])
                 for each in self.get("query", query=expression)["result"]]
        return [value for value in found if not math.isnan(value)]

    def stop(self):
        wait.end(self._process)
