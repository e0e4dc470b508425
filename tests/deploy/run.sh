#!/usr/bin/env bash
# Runs a test in Python with the distribution's interpreter and the end-to-end
# tests' library: run.sh FILE ARGS…
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=tests/e2e/lib:tests/e2e/gen
# nginx and podman's helpers are in sbin.
export PATH="$PATH:/usr/sbin:/sbin"
exec /usr/bin/python3 "$@"
