#!/usr/bin/env bash
# Runs a test in Python with the distribution's interpreter: run.sh FILE ARGS…
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "$@"
