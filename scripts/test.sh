#!/usr/bin/env bash
# Sets up .venv and runs the tests: bash scripts/test.sh [PYTEST ARGUMENT ...]
# Slow tests are left out; bash scripts/test.sh -m slow runs those, -m "" all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh dev
exec .venv/bin/python -m pytest "$@"
