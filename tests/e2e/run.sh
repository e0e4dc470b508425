#!/usr/bin/env bash
# Runs a test in Python with the generated stubs and the library: run.sh FILE.
# The interpreter is the distribution's, which has grpc.
set -euo pipefail
here=tests/e2e
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH="$here/lib:$here/gen"
# nginx is in sbin.
export PATH="$PATH:/usr/sbin"
exec /usr/bin/python3 -W error::ResourceWarning "$@"
