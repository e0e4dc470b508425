"""The Kubernetes manifests built by kubectl, and every configuration checked by
hotlined itself: kustomize_test.py KUBECTL HOTLINED."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

KUBECTL, HOTLINED = (os.path.abspath(path) for path in sys.argv[1:3])
DEPLOY = "deploy"


def build(folder):
    """The documents of a kustomization, by kind."""
    with tempfile.TemporaryDirectory() as copy:
        # kubectl follows no link out of its folder, and runfiles are links.
        shutil.copytree(os.path.join(DEPLOY, "kubernetes"),
                        os.path.join(copy, "kubernetes"))
        done = subprocess.run(
            [KUBECTL, "kustomize", os.path.join(copy, "kubernetes", folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    # Deprecated fields and the like are told on standard error.
    assert not done.stderr, done.stderr.decode()
    documents = list(yaml.safe_load_all(done.stdout))
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


def check_config(text):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([HOTLINED, "--check-config", "--config",
                               file.name],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Manifests(unittest.TestCase):

    def assert_restricted(self, pod, container):
        """The Pod Security Standard "restricted"."""
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertNotEqual(pod["securityContext"]["runAsUser"], 0)
        self.assertEqual(pod["securityContext"]["seccompProfile"]["type"],
                         "RuntimeDefault")
        own = container["securityContext"]
        self.assertTrue(own["runAsNonRoot"])
        self.assertFalse(own["allowPrivilegeEscalation"])
        self.assertTrue(own["readOnlyRootFilesystem"])
        self.assertEqual(own["capabilities"]["drop"], ["ALL"])
        self.assertNotIn("add", own["capabilities"])
        for volume in pod["volumes"]:
            self.assertTrue(set(volume) <= {"name", "configMap", "emptyDir"})
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            self.assertNotIn(field, pod)
        self.assertFalse(pod["automountServiceAccountToken"])

    def assert_probed(self, container, port):
        self.assertIn({"name": "http", "containerPort": port},
                      container["ports"])
        paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz",
                 "readinessProbe": "/readyz"}
        for probe, path in paths.items():
            self.assertEqual(container[probe]["httpGet"],
                             {"path": path, "port": "http"})

    def assert_configured(self, pod, container, config_map):
        """The ConfigMap is mounted whole, and hotlined accepts what it says."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        self.assertEqual(volumes["config"]["configMap"]["name"],
                         config_map["metadata"]["name"])
        self.assertNotIn("subPath", mounts["config"])
        self.assertEqual(container["args"],
                         ["--config",
                          mounts["config"]["mountPath"] + "/hotline.yaml"])
        text = config_map["data"]["hotline.yaml"]
        code, _, errors = check_config(text)
        self.assertEqual((code, errors), (0, ""))
        config = yaml.safe_load(text)
        grace = float(config["shutdown_grace"].rstrip("s"))
        self.assertLess(grace, pod["terminationGracePeriodSeconds"])
        return config

    def test_the_base_is_a_service_of_its_own(self):
        built = build("base")
        self.assertEqual(set(built), {"ConfigMap", "Deployment",
                                      "NetworkPolicy", "Service"})
        template = built["Deployment"]["spec"]["template"]
        pod = template["spec"]
        (container,) = pod["containers"]
        self.assert_restricted(pod, container)
        self.assert_probed(container, 9464)
        config = self.assert_configured(pod, container, built["ConfigMap"])
        self.assertEqual(config["listen"], {"grpc": ["0.0.0.0:50051"],
                                            "insecure": True,
                                            "http": "0.0.0.0:9464"})
        self.assertRegex(container["image"], r"^hotline:\d+\.\d+\.\d+$")

        selector = built["Service"]["spec"]["selector"]
        self.assertLessEqual(selector.items(),
                             template["metadata"]["labels"].items())
        self.assertEqual(
            {port["port"]: port["targetPort"]
             for port in built["Service"]["spec"]["ports"]},
            {50051: "grpc", 9464: "http"})
        # Without TLS on it, gRPC is for those who are let in.
        policy = built["NetworkPolicy"]["spec"]
        self.assertLessEqual(policy["podSelector"]["matchLabels"].items(),
                             template["metadata"]["labels"].items())
        for rule in policy["ingress"]:
            if {"port": "grpc"} in rule["ports"]:
                self.assertTrue(rule["from"])

    def test_the_overlay_is_a_native_sidecar_with_a_unix_socket(self):
        built = build("overlays/sidecar")
        self.assertEqual(set(built), {"ConfigMap", "Deployment"})
        deployment = built["Deployment"]
        template = deployment["spec"]["template"]
        pod = template["spec"]
        (sidecar,) = pod["initContainers"]
        (app,) = pod["containers"]
        self.assertEqual((sidecar["name"], sidecar["restartPolicy"]),
                         ("hotline", "Always"))
        self.assert_restricted(pod, sidecar)
        self.assert_restricted(pod, app)
        self.assert_probed(sidecar, 19464)
        self.assertEqual(
            template["metadata"]["annotations"]["prometheus.io/port"], "19464")
        config = self.assert_configured(pod, sidecar, built["ConfigMap"])
        self.assertEqual(config["listen"],
                         {"grpc": ["unix:///run/hotline/hotline.sock"],
                          "http": "0.0.0.0:19464"})

        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        self.assertIn("emptyDir", volumes["hotline-socket"])
        for container in (sidecar, app):
            self.assertIn({"name": "hotline-socket",
                           "mountPath": "/run/hotline"},
                          container["volumeMounts"])
            self.assertRegex(container["image"], r"^hotline:\d+\.\d+\.\d+$")
            self.assertIn("memory", container["resources"]["limits"])
            self.assertIn("cpu", container["resources"]["requests"])
        self.assertEqual(pod["securityContext"]["fsGroup"],
                         pod["securityContext"]["runAsGroup"])
        self.assertIn("unix:///run/hotline/hotline.sock", app["args"][0])

        self.assertEqual(
            {name for name in template["metadata"]["labels"]},
            {"app.kubernetes.io/name", "app.kubernetes.io/component",
             "app.kubernetes.io/part-of"})
        self.assertLessEqual(
            deployment["spec"]["selector"]["matchLabels"].items(),
            template["metadata"]["labels"].items())

    def test_a_change_of_the_configuration_changes_its_name(self):
        names = {build(folder)["ConfigMap"]["metadata"]["name"]
                 for folder in ("base", "overlays/sidecar")}
        self.assertEqual(len(names), 2)
        for name in names:
            self.assertRegex(name, r"^hotline(-sidecar)?-[a-z0-9]{10}$")


class Example(unittest.TestCase):

    def test_hotlined_accepts_it_without_a_warning(self):
        with open(os.path.join(DEPLOY, "hotline.example.yaml")) as file:
            example = file.read()
        code, effective, errors = check_config(example)
        self.assertEqual((code, errors), (0, ""))
        # What it says is what it means.
        said = yaml.safe_load(example)
        meant = yaml.safe_load(effective)
        for section, values in said.items():
            if not isinstance(values, dict):
                continue
            self.assertLessEqual(values.items(), meant[section].items())
        self.assertEqual(meant["targets"][0]["warm"], 4)

    def test_its_values_are_the_defaults_but_where_it_says_otherwise(self):
        with open(os.path.join(DEPLOY, "hotline.example.yaml")) as file:
            said = yaml.safe_load(file)
        defaults = yaml.safe_load(check_config("")[1])
        del said["targets"], said["egress"]["allow"]
        for section, values in said.items():
            if isinstance(values, dict):
                self.assertLessEqual(values.items(), defaults[section].items())
            else:
                self.assertEqual(values, defaults[section])

    def test_a_bad_configuration_is_refused_with_its_line(self):
        code, output, errors = check_config("pool:\n  max_conections: 1\n")
        self.assertNotEqual(code, 0)
        self.assertEqual(output, "")
        self.assertIn(":2: pool.max_conections: unknown key "
                      "(did you mean max_connections?)", errors)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
