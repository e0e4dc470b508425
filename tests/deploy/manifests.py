"""The Kubernetes manifests as kubectl builds them."""

import json
import os
import re
import shutil
import subprocess
import tempfile

import yaml

# Found through this file's link: the npm packages are not inputs of Bazel.
NODE_MODULES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.realpath(__file__)))), "node_modules")
OVERLAYS = ("daemonset", "shared", "sidecar", "sidecar-classic")


def uncomment_pod_monitor(path):
    """Turns the component on in an overlay, as its comment says."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    text, changes = re.subn(
        r"(?m)^( *)#(?=components:$| *- \.\./\.\./components/pod-monitor$)",
        r"\1", text)
    if changes not in (1, 2):
        raise AssertionError("%d lines uncommented in %s" % (changes, path))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def build(kubectl, folder, prepare=lambda kubernetes: None):
    """The objects of a kustomization; `prepare` may change the copy of
    deploy/kubernetes that it is built from."""
    with tempfile.TemporaryDirectory() as directory:
        # kubectl follows no link out of its folder, and runfiles are links.
        copy = os.path.join(directory, "kubernetes")
        shutil.copytree("deploy/kubernetes", copy)
        prepare(copy)
        done = subprocess.run(
            [kubectl, "kustomize", os.path.join(copy, folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    # kubectl reports deprecated fields and the like on standard error.
    if done.returncode != 0 or done.stderr:
        raise AssertionError(done.stderr.decode())
    return list(yaml.safe_load_all(done.stdout))


def build_monitored(kubectl, overlay):
    """The objects of an overlay with the PodMonitor's component turned on."""
    folder = "overlays/" + overlay
    return build(kubectl, folder, lambda kubernetes: uncomment_pod_monitor(
        os.path.join(kubernetes, folder, "kustomization.yaml")))


def by_kind(objects):
    """kind -> its only object."""
    found = {each["kind"]: each for each in objects}
    if len(found) != len(objects):
        raise AssertionError("two objects of one kind")
    return found


def problems(objects):
    """Violations of the API's models and of the level `restricted`."""
    done = subprocess.run(
        ["node", "tests/deploy/check_manifests.mjs", NODE_MODULES],
        input=json.dumps(objects).encode(), stdout=subprocess.PIPE, check=True)
    return {(each["object"], each["path"], each["problem"])
            for each in json.loads(done.stdout)}
