"""The systemd unit: no word that systemd does not know, nothing left open, and
times that fit hotlined's."""

import os
import re
import subprocess
import tempfile
import unittest

import yaml

UNIT = "deploy/systemd/hotlined.service"
SYSUSERS = "deploy/systemd/hotline.sysusers"
HOTLINED = os.path.realpath("server/hotlined")


def analyze(*words):
    done = subprocess.run(("systemd-analyze", "--no-pager") + words,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    return done.returncode, done.stdout.decode()


class SystemdTest(unittest.TestCase):

    def setUp(self):
        with open(UNIT, encoding="utf-8") as file:
            self.unit = file.read()
        self.settings = dict(re.findall(r"^(\w+)=(.*)$", self.unit, re.M))

    def verify(self, unit):
        """What systemd has against a unit, with our program where it is."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "hotlined.service")
            with open(path, "w", encoding="utf-8") as file:
                file.write(unit.replace("/usr/bin/hotlined", HOTLINED))
            return analyze("verify", path)[1]

    def test_systemd_accepts_every_directive(self):
        self.assertEqual(self.verify(self.unit), "")
        self.assertIn("Unknown key", self.verify(
            self.unit.replace("ProtectHome=", "ProtectHouse=")))
        self.assertIn("not executable", self.verify(
            self.unit.replace("/bin/kill", "/bin/no-such-program")))

    def test_its_exposure_is_small(self):
        # Of 100; what is left is what a network service needs.
        code, output = analyze("security", "--offline=true", "--threshold=15",
                               os.path.realpath(UNIT))
        self.assertEqual(code, 0, output)
        code, _ = analyze("security", "--offline=true", "--threshold=5",
                          os.path.realpath(UNIT))
        self.assertNotEqual(code, 0)

    def test_it_has_time_to_drain(self):
        defaults = yaml.safe_load(subprocess.run(
            [HOTLINED, "--check-config"], stdout=subprocess.PIPE,
            check=True).stdout)
        grace = float(defaults["shutdown_grace"].rstrip("s"))
        self.assertGreaterEqual(float(self.settings["TimeoutStopSec"]),
                                grace + 5)

    def test_its_user_is_made(self):
        done = subprocess.run(
            ["systemd-sysusers", "--dry-run", os.path.realpath(SYSUSERS)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        said = done.stdout.decode()
        self.assertIn("user '%s'" % self.settings["User"], said)
        self.assertIn("group '%s'" % self.settings["Group"], said)


if __name__ == "__main__":
    unittest.main()
