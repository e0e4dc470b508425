#!/usr/bin/env bash
# Runs a test in Python with the generated stubs and the library: run.sh FILE.
# The interpreter is the distribution's, which has grpc.
set -euo pipefail
here=tests/e2e
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH="$here/lib:$here/gen"
# nginx is in sbin.
export PATH="$PATH:/usr/sbin"
# Else a fork waits for gRPC's threads, for half a minute while calls run. The
# children never use the parent's gRPC.
export GRPC_ENABLE_FORK_SUPPORT=0
exec /usr/bin/python3 -W error::ResourceWarning "$@"
