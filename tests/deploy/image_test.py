"""The image: what is in it, and that it runs, confined as far as can be; the
commands of the documents about it: image_test.py KUBECTL."""

import glob
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import unittest

import yaml

import certs
import containers
import manifests
import peers
import wait
from readme import example

KUBECTL = os.path.abspath(sys.argv[1])

MEGABYTE = 1 << 20


def tree(root):
    """path -> what is there, for all below a folder."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[key] = hashlib.sha256(file.read()).hexdigest()
    return found


def owner_of(pattern):
    """The installed Debian package that has such a file."""
    return subprocess.run(["dpkg-query", "-S", pattern], check=True,
                          stdout=subprocess.PIPE).stdout.decode().split(":")[0]


class ImageTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="hl", dir="/tmp")
        cls.containers = containers.Containers(cls.directory)
        cls.addClassCleanup(cls.containers.remove)
        cls.image, cls.example = cls.containers.build_images()
        cls.root = cls.containers.podman("image", "mount", cls.image).strip()
        cls.addClassCleanup(cls.containers.podman, "image", "umount", "--all",
                            code=None)
        with open(cls.at("usr/share/doc/hotline/sbom.spdx.json"),
                  encoding="utf-8") as file:
            cls.sbom = json.load(file)

    @classmethod
    def at(cls, path):
        return os.path.join(cls.root, path)

    def run_image(self, *options):
        """A container of it, as confined as the manifests say; its name."""
        self.containers.podman(
            "run", "--detach", "--name", "broker", "--read-only", "--cap-drop",
            "all", "--security-opt", "no-new-privileges", *options)
        self.addCleanup(self.containers.remove_pods)
        return "broker"

    def healthy(self, name):
        return self.containers.podman("healthcheck", "run", name,
                                      code=None) == ""

    def test_it_holds_programs_and_libraries_and_no_shell(self):
        programs = sorted(os.listdir(self.at("usr/bin")))
        self.assertEqual(programs, ["hotline", "hotlined", "sleep"])
        self.assertEqual(os.listdir(self.at("usr/sbin")), [])
        for path in glob.glob(self.at("**"), recursive=True):
            mode = os.lstat(path).st_mode
            self.assertFalse(mode & 0o6000, "setuid: " + path)
            if not os.path.islink(path):
                self.assertFalse(mode & 0o002, "anybody may write: " + path)
        size = sum(os.lstat(os.path.join(folder, name)).st_size
                   for folder, _, files in os.walk(self.root)
                   for name in files)
        self.assertLess(size, 45 * MEGABYTE)

    def test_it_is_labelled_and_runs_as_a_number(self):
        for image in (self.image, self.example):
            inspected = self.containers.inspect(image)
            self.assertEqual(inspected["Config"]["User"], "65532:65532")
            labels = inspected["Config"]["Labels"]
            for label in ("title", "description", "version", "licenses"):
                self.assertTrue(
                    labels["org.opencontainers.image." + label], label)
        version = self.containers.podman(
            "run", "--rm", self.image, "--version")
        inspected = self.containers.inspect(self.image)
        self.assertEqual(
            version.split()[1],
            inspected["Config"]["Labels"]["org.opencontainers.image.version"])
        self.assertEqual(inspected["Healthcheck"]["Test"][:3],
                         ["CMD", "/usr/bin/hotline", "health"])

    def test_the_bill_of_materials_names_each_package_that_gave_a_file(self):
        listed = {package["name"]: package["versionInfo"]
                  for package in self.sbom["packages"]}
        self.assertIn("hotline", listed)
        recorded = set(os.listdir(self.at("var/lib/dpkg/status.d")))
        self.assertLessEqual(recorded, set(listed))
        for path in glob.glob(self.at("usr/lib/*/**/*.so*"), recursive=True):
            name = os.path.basename(path)
            if os.path.islink(path) or name == "libhotline_tls.so":
                continue
            owner = owner_of("*/" + os.path.relpath(path, self.at("usr")))
            self.assertIn(owner, recorded, path)
            version = self.containers.command(
                "dpkg-query", "-W", "-f", "${Version}", owner)
            self.assertEqual(listed[owner], version)
            self.assertTrue(os.path.exists(
                self.at("usr/share/doc/%s/copyright" % owner)))

    def test_the_bill_of_materials_names_what_is_linked_into_programs(self):
        linked = {relation["relatedSpdxElement"]
                  for relation in self.sbom["relationships"]
                  if relation["relationshipType"] == "STATIC_LINK"}
        names = {package["name"] for package in self.sbom["packages"]
                 if package["SPDXID"] in linked}
        with open(os.path.join(containers.TREE, "bazel/system.bzl"),
                  encoding="utf-8") as file:
            archives = set(re.findall(r"-l:(\w[\w+]*\.a)", file.read()))
        self.assertIn("libgrpc++.a", archives)
        for archive in archives:
            self.assertIn(owner_of("*/" + archive), names, archive)

    def test_the_bill_of_materials_has_the_form_of_spdx(self):
        sbom = self.sbom
        self.assertEqual((sbom["spdxVersion"], sbom["dataLicense"],
                          sbom["SPDXID"]),
                         ("SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT"))
        self.assertEqual(sbom["creationInfo"]["created"],
                         "2023-11-14T22:13:20Z")
        self.assertRegex(sbom["documentNamespace"], "^urn:uuid:[0-9a-f-]{36}$")
        known = {package["SPDXID"] for package in sbom["packages"]}
        self.assertEqual(len(known), len(sbom["packages"]))
        for package in sbom["packages"]:
            self.assertRegex(package["SPDXID"], "^SPDXRef-[A-Za-z0-9.-]+$")
            self.assertLessEqual({"name", "downloadLocation"}, set(package))
        for relation in sbom["relationships"]:
            self.assertIn(relation["relatedSpdxElement"], known)

    def test_the_same_programs_give_the_same_root(self):
        again = os.path.join(self.directory, "again")
        self.containers.command(
            os.path.join(containers.TREE, "deploy/image/build"), again,
            self.containers.binaries())
        first = tree(self.root)
        for path in set(first):  # Mounted over, and made by the engine.
            if path.split("/")[0] in ("run", "dev", "proc", "sys"):
                del first[path]
        self.assertEqual(tree(os.path.join(again, "hotline")), first)
        shutil.rmtree(again)

    def test_it_serves_confined_without_a_configuration(self):
        name = self.run_image(self.image)
        wait.until(lambda: self.healthy(name), "healthy", 30)
        with open("/proc/%d/status" % self.containers.pid(name),
                  encoding="ascii") as file:
            status = dict(line.split(":\t", 1) for line in file
                          if ":\t" in line)
        self.assertEqual(status["Uid"].split()[0], "65532")
        self.assertEqual(int(status["CapBnd"], 16), 0)
        self.containers.podman("kill", "--signal", "TERM", name)
        self.assertEqual(self.containers.exit_code(name), 0)

    def test_a_broker_that_does_not_answer_is_not_healthy(self):
        name = self.run_image(self.image)
        wait.until(lambda: self.healthy(name), "healthy", 30)
        self.containers.podman("kill", "--signal", "STOP", name)
        self.assertFalse(self.healthy(name))
        self.containers.podman("kill", "--signal", "CONT", name)
        wait.until(lambda: self.healthy(name), "healthy again", 30)

    def test_upstreams_are_verified_by_the_authorities_of_the_image(self):
        authority = certs.Authority(self.directory)
        good = authority.issue("good")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(good.cert, good.key)
        config = os.path.join(self.directory, "hotline.yaml")
        with open(config, "w", encoding="ascii") as file:
            file.write('egress: {allow: ["127.0.0.0/8", "::1"]}\n')
        os.chmod(self.directory, 0o755)
        bundle = "/etc/ssl/certs/ca-certificates.crt"

        def get(*options):
            name = self.run_image(
                *options, "--volume", config + ":/hotline.yaml:ro",
                self.image, "--config", "/hotline.yaml")
            wait.until(lambda: self.healthy(name), "healthy", 30)
            peer = containers.in_network_of(
                self.containers.pid(name),
                lambda: peers.Peer(peers.always(), context))
            output = self.containers.podman(
                "exec", name, "/usr/bin/hotline", "get", peer.target + "/",
                code=None)
            peer.stop()
            self.doCleanups()
            return output

        self.assertIn("TLS_VERIFY_FAILED", get())
        self.assertEqual(get("--volume", authority.cert + ":" + bundle + ":ro"),
                         "fine\n")

    # In the place of kubectl: building is real; there is no cluster, so what
    # would be sent to one is kept.
    _KUBECTL = """#!/bin/sh
case "$1 $2" in
  kustomize*) exec %s "$@" ;;
  "apply -f") cp "$3" applied.yaml ;;
  *) exit 1 ;;
esac
"""

    def run_block(self, block):
        """A document's commands as they stand, less what is built already."""
        self.assertIn("deploy/build-image", block)
        return self.containers.command(
            "bash", "-euo", "pipefail", "-c", "cd %s\n%s" % (
                self.directory, block.replace("deploy/build-image", ":")))

    def test_the_documents_container_runs(self):
        said = self.run_block(example("container", "docs/deployment.md"))
        self.assertRegex(said, r"(?m)^connections  0 of 100")
        self.assertEqual(self.containers.exit_code("hotline"), 0)

    def test_the_readmes_sidecar_is_one_for_the_api_and_its_images_exist(self):
        shutil.copytree("deploy/kubernetes",
                        os.path.join(self.directory, "deploy/kubernetes"))
        kubectl = os.path.join(self.directory, "kubectl")
        with open(kubectl, "w", encoding="ascii") as file:
            file.write(self._KUBECTL % KUBECTL)
        os.chmod(kubectl, 0o755)
        self.run_block("PATH=$PWD:$PATH\n" + example("sidecar"))
        with open(os.path.join(self.directory, "applied.yaml"),
                  encoding="utf-8") as file:
            applied = list(yaml.safe_load_all(file))
        self.assertEqual(manifests.problems(applied), set())
        pod = manifests.by_kind(applied)["Deployment"]["spec"]["template"][
            "spec"]
        self.assertEqual({each["image"] for each in
                          pod["initContainers"] + pod["containers"]},
                         {self.image, self.example})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
