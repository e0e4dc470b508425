#!/usr/bin/env bash
# Runs a Python test with the stubs and the library of the end-to-end tests:
# run.sh FILE ARGUMENT…
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=tests/conformance/gen:tests/conformance/clients:tests/e2e/lib
exec /usr/bin/python3 -W error::ResourceWarning "$@"
