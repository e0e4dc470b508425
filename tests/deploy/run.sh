#!/usr/bin/env bash
# Runs a test in Python with the distribution's interpreter and the end-to-end
# tests' library: run.sh FILE ARGS…
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=tests/e2e/lib:tests/e2e/gen
# nginx and podman's helpers are in sbin.
export PATH="$PATH:/usr/sbin:/sbin"
# Else a fork waits for gRPC's threads, for half a minute while calls run. The
# children never use the parent's gRPC.
export GRPC_ENABLE_FORK_SUPPORT=0
exec /usr/bin/python3 "$@"
