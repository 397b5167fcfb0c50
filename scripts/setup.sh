#!/usr/bin/env bash
# Makes .venv and installs dpgen into it: bash scripts/setup.sh [EXTRA ...]   (extras: dev datasets dicom onnx parquet remote secure)
# Quick when nothing has changed since the last time. PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

python="${PYTHON:-python3}"
extras="$(IFS=,; printf '%s' "$*")"

command -v "$python" >/dev/null || fail "needs Python 3.11 or newer, and '$python' was not found;" \
    "install it or set PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "needs Python 3.11 or newer," \
    "but '$python' is $("$python" --version 2>&1); set PYTHON=/path/to/python"

# What the environment depends on, this folder included: an editable install holds its path.
key="$("$python" - "$PWD" "$extras" <<'PYTHON'
import hashlib
import pathlib
import sys

digest = hashlib.sha256("\0".join([sys.version, *sys.argv[1:]]).encode())
for name in ("pyproject.toml", "scripts/constraints.txt"):
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest())
PYTHON
)"
stamp=".venv/.dpgen-setup${extras:+-${extras//,/-}}"
if [[ -f "$stamp" && "$(<"$stamp")" == "$key" && -x .venv/bin/python ]]; then
    say ".venv is up to date"
    exit 0
fi

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "'$python' has no venv module;" \
        "on Debian and Ubuntu: apt-get install python3-venv"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

say "installing dpgen${extras:+ with $extras} and what it needs (torch, diffusers, ...)"
say "the first time takes one to five minutes and about 1.5 GB; pip stays silent meanwhile"
# The constraints keep pip from replacing torch by another build.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
    --constraint scripts/constraints.txt --editable ".${extras:+[$extras]}" \
    || fail "pip could not install dpgen; its words are above"
printf '%s\n' "$key" >"$stamp"
.venv/bin/python -c 'import torchvision' 2>/dev/null || say "torchvision is of another build (CUDA or CPU) than" \
    "this torch and does not import by itself: dpgen mends that for itself, programs of your own need two of one build"
say "done: .venv is ready"
