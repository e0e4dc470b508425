#!/usr/bin/env bash
# Runs a Python test with the stubs and the library of the end-to-end tests:
# run.sh FILE ARGUMENT…
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=tests/conformance/gen:tests/conformance/clients
PYTHONPATH+=:tests/e2e/lib:tests/e2e/gen
exec /usr/bin/python3 -W error::ResourceWarning "$@"
