"""The Kubernetes manifests as kubectl builds them."""

import json
import os
import shutil
import subprocess
import tempfile

import yaml

# Found through this file's own link: npm's packages are no input of Bazel's.
NODE_MODULES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.realpath(__file__)))), "node_modules")
OVERLAYS = ("daemonset", "shared", "sidecar", "sidecar-classic")


def build(kubectl, folder):
    """The objects of a kustomization."""
    with tempfile.TemporaryDirectory() as copy:
        # kubectl follows no link out of its folder, and runfiles are links.
        shutil.copytree("deploy/kubernetes", os.path.join(copy, "kubernetes"))
        done = subprocess.run(
            [kubectl, "kustomize", os.path.join(copy, "kubernetes", folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    # Deprecated fields and the like are told on standard error.
    if done.returncode != 0 or done.stderr:
        raise AssertionError(done.stderr.decode())
    return list(yaml.safe_load_all(done.stdout))


def by_kind(objects):
    """kind -> the only object of it."""
    found = {each["kind"]: each for each in objects}
    if len(found) != len(objects):
        raise AssertionError("two objects of one kind")
    return found


def problems(objects):
    """What the API's models, and the level `restricted`, have against them."""
    done = subprocess.run(
        ["node", "tests/deploy/check_manifests.mjs", NODE_MODULES],
        input=json.dumps(objects).encode(), stdout=subprocess.PIPE, check=True)
    return {(each["object"], each["path"], each["problem"])
            for each in json.loads(done.stdout)}
