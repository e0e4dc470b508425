"""Checks the manifests that kubectl builds against the API's models and the Pod
Security level `restricted`, and every configuration by hotlined itself:
kustomize_test.py KUBECTL HOTLINED."""

import copy
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

import certs
import manifests

KUBECTL, HOTLINED = (os.path.abspath(path) for path in sys.argv[1:3])
SOCKET = "unix:///run/hotline/hotline.sock"
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"}


def build(overlay):
    """The objects of an overlay, by kind."""
    return manifests.by_kind(
        manifests.build(KUBECTL, "overlays/" + overlay))


def build_monitored(overlay):
    """The same, with the PodMonitor's component turned on."""
    return manifests.by_kind(manifests.build_monitored(KUBECTL, overlay))


def check_config(text):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([HOTLINED, "--check-config", "--config",
                               file.name],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class ModelsTest(unittest.TestCase):
    """Against the newest API models available from npm."""

    # The daemonset needs hostPath.
    HOST_PATH = {("DaemonSet", "PSS105", "Restrict host path volumes."),
                 ("DaemonSet", "PSS201", "Restrict use of volume types.")}

    def test_manifests_match_the_models_and_are_restricted(self):
        folders = {"base": set(), **{"overlays/" + overlay: set()
                                     for overlay in manifests.OVERLAYS}}
        folders["overlays/daemonset"] = self.HOST_PATH
        self.assertEqual(set(os.listdir("deploy/kubernetes/overlays")),
                         set(manifests.OVERLAYS))
        for folder, expected in folders.items():
            with self.subTest(folder):
                objects = manifests.build(KUBECTL, folder)
                self.assertEqual(manifests.problems(objects), expected)
        for overlay in manifests.OVERLAYS:
            with self.subTest(overlay, monitored=True):
                objects = manifests.build_monitored(KUBECTL, overlay)
                self.assertEqual(manifests.problems(objects),
                                 folders["overlays/" + overlay])

    def assert_found(self, change, kind, path, problem):
        """A change to the sidecar's objects causes exactly this problem."""
        built = build_monitored("sidecar")
        change(built[kind]["spec"])
        self.assertEqual(manifests.problems(list(built.values())),
                         {(kind, path, problem)})

    def test_schema_errors_are_detected(self):
        pod = "spec.template.spec"
        cases = (
            ("Deployment", lambda s: s.update(replica=1), "spec.replica",
             "unknown field"),
            ("Deployment", lambda s: s.update(replicas="1"), "spec.replicas",
             "wants a number"),
            ("Deployment",
             lambda s: s["template"]["spec"]["containers"][0].update(args="a"),
             pod + ".containers[0].args", "wants a list"),
            ("Deployment",
             lambda s: s["template"]["spec"]["volumes"][1].pop("name"),
             pod + ".volumes[1].name", "missing"),
            ("PodMonitor", lambda s: s["podMetricsEndpoints"][0].update(p=1),
             "spec.podMetricsEndpoints[0].p", "unknown field"),
        )
        for kind, change, path, problem in cases:
            with self.subTest(path):
                self.assert_found(change, kind, path, problem)

    def test_violations_of_restricted_are_detected(self):
        def in_sidecar(**changes):
            return lambda pod: pod["initContainers"][0][
                "securityContext"].update(changes)

        cases = (
            (lambda pod: pod.update(hostNetwork=True), "PSS102"),
            (in_sidecar(privileged=True), "PSS103"),
            (in_sidecar(allowPrivilegeEscalation=True), "PSS202"),
            (in_sidecar(runAsNonRoot=False), "PSS203"),
            (in_sidecar(runAsUser=0), "PSS204"),
            (lambda pod: pod["securityContext"].pop("seccompProfile"),
             "PSS205"),
            (in_sidecar(capabilities={}), "PSS206"),
        )
        deployment = build("sidecar")["Deployment"]
        for change, rule in cases:
            with self.subTest(rule):
                changed = copy.deepcopy(deployment)
                change(changed["spec"]["template"]["spec"])
                self.assertIn(rule, {path for _, path, _ in
                                     manifests.problems([changed])})


class ManifestsTest(unittest.TestCase):

    def setUp(self):
        # The content of the Secret hotline-tls.
        self.certificates = tempfile.mkdtemp(prefix="hl")
        self.addCleanup(shutil.rmtree, self.certificates)
        authority = certs.Authority(self.certificates)
        broker = authority.issue("broker", san="DNS:hotline.hotline.svc")
        for source, name in ((authority.cert, "ca.crt"),
                             (broker.cert, "tls.crt"),
                             (broker.key, "tls.key")):
            os.rename(source, os.path.join(self.certificates, name))

    def assert_broker(self, workload, container):
        """Probes, ports and everything else common to all overlays."""
        pod = workload["spec"]["template"]["spec"]
        self.assertRegex(container["image"], r"^hotline:\d+\.\d+\.\d+$")
        self.assertIn({"name": "hotline-http", "containerPort": 19464},
                      container["ports"])
        # Opens a new connection over the socket and makes a call.
        for probe in ("startupProbe", "livenessProbe"):
            self.assertEqual(container[probe]["exec"]["command"],
                             ["/usr/bin/hotline", "health", "--max-time", "2"])
            self.assertGreater(container[probe]["timeoutSeconds"], 2)
        self.assertIn({"name": "HOTLINE_ADDRESS", "value": SOCKET},
                      container["env"])
        self.assertEqual(container["readinessProbe"]["httpGet"],
                         {"path": "/readyz", "port": "hotline-http"})
        self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
        self.assertIn("memory", container["resources"]["limits"])
        self.assertEqual(set(container["resources"]["requests"]),
                         {"cpu", "memory"})
        self.assertFalse(pod["automountServiceAccountToken"])
        self.assertEqual(pod["securityContext"]["fsGroup"],
                         pod["securityContext"]["runAsGroup"])

    def assert_configured(self, built, workload, container):
        """The ConfigMap is mounted as a directory, and hotlined accepts it."""
        pod = workload["spec"]["template"]["spec"]
        name = built["ConfigMap"]["metadata"]["name"]
        self.assertRegex(name, r"^hotline-([a-z-]+-)?[a-z0-9]{10}$")
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        self.assertEqual(volumes["hotline-config"]["configMap"]["name"], name)
        mount = mounts["hotline-config"]
        self.assertNotIn("subPath", mount)
        self.assertEqual(container["args"],
                         ["--config", mount["mountPath"] + "/hotline.yaml"])
        text = built["ConfigMap"]["data"]["hotline.yaml"].replace(
            "/etc/hotline-tls", self.certificates)
        # The socket's directory does not exist here, which is an error.
        code, _, errors = check_config(
            text.replace("unix:///run/hotline/", "unix:///tmp/"))
        self.assertEqual((code, errors), (0, ""))
        config = yaml.safe_load(text)
        self.assertIn(SOCKET, config["listen"]["grpc"])
        self.assertEqual(config["listen"]["http"], "0.0.0.0:19464")
        self.assertLessEqual(PRIVATE, set(config["egress"]["allow"]))
        return config

    def assert_grace(self, config, pod, before=0):
        """Time for preStop (`before`), the drain, and a margin to exit."""
        grace = float(config["shutdown_grace"].rstrip("s"))
        self.assertGreaterEqual(pod["terminationGracePeriodSeconds"],
                                before + grace + 5)

    def assert_labelled(self, workload):
        """The pods have the recommended labels, and are selected by some."""
        labels = workload["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(
            set(labels), {"app.kubernetes.io/" + name for name in
                          ("name", "component", "part-of", "version")})
        self.assertLessEqual(
            workload["spec"]["selector"]["matchLabels"].items(),
            labels.items())

    def assert_monitored(self, built):
        """The PodMonitor selects the pods, by a label that is not the
        application's, and scrapes a port of theirs."""
        (workload,) = (built[kind] for kind in ("Deployment", "DaemonSet")
                       if kind in built)
        template = workload["spec"]["template"]
        monitor = built["PodMonitor"]
        self.assertEqual(monitor["metadata"].get("namespace"),
                         workload["metadata"].get("namespace"))
        selected = monitor["spec"]["selector"]["matchLabels"]
        self.assertEqual(selected, {"hotline-metrics": "true"})
        self.assertLessEqual(selected.items(),
                             template["metadata"]["labels"].items())
        self.assertNotIn("hotline-metrics",
                         workload["spec"]["selector"]["matchLabels"])
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        self.assertEqual((endpoint["port"], endpoint["path"]),
                         ("hotline-http", "/metrics"))
        pod = template["spec"]
        self.assertIn(endpoint["port"], [
            port["name"] for container in
            pod["containers"] + pod.get("initContainers", [])
            for port in container.get("ports", ())])

    def assert_shares_the_socket(self, pod, sidecar):
        """An application with another user can connect through its group."""
        (app,) = [each for each in pod["containers"] if each["name"] == "app"]
        mount = {"name": "hotline-socket", "mountPath": "/run/hotline"}
        for container in (sidecar, app):
            self.assertIn(mount, container["volumeMounts"])
        (volume,) = [volume for volume in pod["volumes"]
                     if volume["name"] == "hotline-socket"]
        self.assertIn("emptyDir", volume)
        self.assertIn({"name": "HOTLINE_ADDRESS", "value": SOCKET},
                      app["env"])
        self.assertNotEqual(app["securityContext"]["runAsUser"],
                            pod["securityContext"]["runAsUser"])

    def test_sidecar_is_native(self):
        built = build("sidecar")
        self.assertEqual(set(built), {"ConfigMap", "Deployment"})
        pod = built["Deployment"]["spec"]["template"]["spec"]
        (sidecar,) = pod["initContainers"]
        self.assertEqual((sidecar["name"], sidecar["restartPolicy"]),
                         ("hotline", "Always"))
        self.assertEqual([each["name"] for each in pod["containers"]], ["app"])
        self.assert_broker(built["Deployment"], sidecar)
        config = self.assert_configured(built, built["Deployment"], sidecar)
        self.assert_grace(config, pod)
        self.assert_labelled(built["Deployment"])
        self.assert_shares_the_socket(pod, sidecar)

    def test_classic_sidecar_outlives_the_application_through_pre_stop(self):
        built = build("sidecar-classic")
        self.assertEqual(set(built), {"ConfigMap", "Deployment"})
        pod = built["Deployment"]["spec"]["template"]["spec"]
        self.assertNotIn("initContainers", pod)
        containers = {each["name"]: each for each in pod["containers"]}
        self.assertEqual(set(containers), {"hotline", "app"})
        sidecar = containers["hotline"]
        self.assertNotIn("restartPolicy", sidecar)
        self.assert_broker(built["Deployment"], sidecar)
        config = self.assert_configured(built, built["Deployment"], sidecar)
        sleep, seconds = sidecar["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(sleep, "/usr/bin/sleep")
        self.assertGreater(int(seconds), 10)
        self.assert_grace(config, pod, int(seconds))
        self.assertNotIn("lifecycle", containers["app"])
        self.assert_labelled(built["Deployment"])
        self.assert_shares_the_socket(pod, sidecar)

    def test_daemonset_shares_a_directory_of_the_node(self):
        built = build("daemonset")
        self.assertEqual(set(built), {"ConfigMap", "DaemonSet", "Namespace"})
        daemonset = built["DaemonSet"]
        namespace = built["Namespace"]["metadata"]
        for each in ("ConfigMap", "DaemonSet"):
            self.assertEqual(built[each]["metadata"]["namespace"],
                             namespace["name"])
        self.assertEqual(
            namespace["labels"]["pod-security.kubernetes.io/enforce"],
            "privileged")
        pod = daemonset["spec"]["template"]["spec"]
        (broker,) = pod["containers"]
        self.assert_broker(daemonset, broker)
        config = self.assert_configured(built, daemonset, broker)
        self.assert_grace(config, pod)
        self.assert_labelled(daemonset)
        # Must exist already: only root could create it.
        self.assertIn({"name": "hotline-socket",
                       "hostPath": {"path": "/run/hotline",
                                    "type": "Directory"}}, pod["volumes"])

    def test_shared_serves_identified_callers_only(self):
        built = build("shared")
        self.assertEqual(set(built), {
            "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Namespace",
            "NetworkPolicy", "PodDisruptionBudget", "Service"})
        deployment = built["Deployment"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        pod = deployment["spec"]["template"]["spec"]
        (broker,) = pod["containers"]
        self.assert_broker(deployment, broker)
        config = self.assert_configured(built, deployment, broker)
        seconds = broker["lifecycle"]["preStop"]["exec"]["command"][1]
        self.assert_grace(config, pod, int(seconds))
        self.assert_labelled(deployment)

        # Callers over the network present a certificate.
        listen = config["listen"]
        self.assertNotIn("insecure", listen)
        self.assertEqual(set(listen["tls"]),
                         {"cert_file", "key_file", "client_ca_file"})
        self.assertEqual(listen["allowed_uids"],
                         [pod["securityContext"]["runAsUser"]])
        self.assertEqual(config["policy"]["default"], "deny")
        self.assertGreater(listen["max_connections_per_peer"], 0)

        service = built["Service"]["spec"]
        self.assertEqual(service["clusterIP"], "None")
        self.assertLessEqual(service["selector"].items(), labels.items())
        self.assertIn({"name": "grpc", "containerPort": 50051},
                      broker["ports"])
        self.assertEqual([port["targetPort"] for port in service["ports"]],
                         ["grpc"])
        self.assertLessEqual(
            built["PodDisruptionBudget"]["spec"]["selector"][
                "matchLabels"].items(), labels.items())

    def test_shared_scales_with_waiting_callers(self):
        built = build("shared")
        scaler = built["HorizontalPodAutoscaler"]["spec"]
        self.assertEqual(
            scaler["scaleTargetRef"],
            {"apiVersion": "apps/v1", "kind": "Deployment",
             "name": built["Deployment"]["metadata"]["name"]})
        self.assertNotIn("replicas", built["Deployment"]["spec"])
        (metric,) = scaler["metrics"]
        self.assertEqual(metric["pods"]["metric"]["name"], "hotline_waiters")

    def test_network_policy_of_shared_admits_what_is_needed(self):
        built = build("shared")
        policy = built["NetworkPolicy"]["spec"]
        labels = built["Deployment"]["spec"]["template"]["metadata"]["labels"]
        self.assertLessEqual(policy["podSelector"]["matchLabels"].items(),
                             labels.items())
        self.assertEqual(policy["policyTypes"], ["Ingress", "Egress"])
        who = {rule["ports"][0]["port"]: rule["from"]
               for rule in policy["ingress"]}
        self.assertEqual(set(who), {"grpc", "hotline-http"})
        self.assertTrue(all(who.values()))
        ports = {port["port"] for rule in policy["egress"]
                 for port in rule["ports"]}
        self.assertEqual(ports, {53, 80, 443})
        denied = {block for rule in policy["egress"]
                  for to in rule.get("to", ())
                  for block in to["ipBlock"]["except"]}
        self.assertEqual(denied, {"169.254.0.0/16", "fe80::/10"})

    def test_only_the_component_adds_a_pod_monitor(self):
        for overlay in manifests.OVERLAYS:
            with self.subTest(overlay):
                plain, monitored = build(overlay), build_monitored(overlay)
                self.assertEqual(set(monitored) - set(plain), {"PodMonitor"})
                self.assert_monitored(monitored)

    def test_the_component_works_in_a_custom_kustomization(self):
        for overlay in manifests.OVERLAYS:
            def write_own(kubernetes, overlay=overlay):
                path = os.path.join(kubernetes, "own")
                os.mkdir(path)
                with open(os.path.join(path, "kustomization.yaml"), "w",
                          encoding="utf-8") as file:
                    yaml.safe_dump({
                        "namespace": "own",
                        "resources": ["../overlays/" + overlay],
                        "components": ["../components/pod-monitor"],
                    }, file)

            with self.subTest(overlay):
                self.assert_monitored(manifests.by_kind(
                    manifests.build(KUBECTL, "own", write_own)))

    def test_the_config_maps_name_depends_on_its_content(self):
        names = {build(overlay)["ConfigMap"]["metadata"]["name"][-10:]
                 for overlay in manifests.OVERLAYS}
        self.assertEqual(len(names), len(manifests.OVERLAYS))


class ExampleTest(unittest.TestCase):

    def test_hotlined_accepts_it_without_warnings(self):
        with open("deploy/hotline.example.yaml") as file:
            example = file.read()
        code, effective, errors = check_config(example)
        self.assertEqual((code, errors), (0, ""))
        # The effective configuration has the values of the file.
        said = yaml.safe_load(example)
        meant = yaml.safe_load(effective)
        for section, values in said.items():
            if not isinstance(values, dict):
                continue
            self.assertLessEqual(values.items(), meant[section].items())
        self.assertEqual(meant["targets"][0]["warm"], 4)

    def test_its_values_are_the_defaults_unless_stated_otherwise(self):
        with open("deploy/hotline.example.yaml") as file:
            said = yaml.safe_load(file)
        defaults = yaml.safe_load(check_config("")[1])
        del said["targets"], said["tls_profiles"], said["egress"]["allow"]
        for section, values in said.items():
            if isinstance(values, dict):
                self.assertLessEqual(values.items(), defaults[section].items())
            else:
                self.assertEqual(values, defaults[section])

    def test_an_invalid_configuration_is_rejected_with_its_line(self):
        code, output, errors = check_config("pool:\n  max_conections: 1\n")
        self.assertNotEqual(code, 0)
        self.assertEqual(output, "")
        self.assertIn(":2:3: pool.max_conections: unknown key "
                      "(did you mean max_connections?)", errors)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
