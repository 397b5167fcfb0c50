#!/usr/bin/env bash
# Sets up .venv, checks style and types and runs the tests: bash scripts/test.sh [PYTEST ARGUMENT ...]
# One process a core, at most four; -n 0 runs all in one. A file stays in one process.
# Slow tests are left out; bash scripts/test.sh -m slow runs those, -m "" all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Networks in tests are tiny: one thread is as fast, and many times faster on a busy machine, where
# threads of torch spin while they wait for each other.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
bash scripts/setup.sh dev
.venv/bin/ruff check
.venv/bin/mypy
exec .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
