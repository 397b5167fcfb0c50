#!/usr/bin/env bash
# From nothing to private synthetic images on a laptop: plan, train, sample, evaluate, verify.
# Everything lands in quickstart/. Run it again: training resumes or is already done, and only the
# images this script made are made anew. rm -r quickstart starts afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=quickstart
step="setting up"
say() { printf '\n== %s\n' "$*" >&2; }
trap 'status=$?; (( status == 0 )) || say "stopped while $step (exit $status); \
run this again to go on, or rm -r $out to start afresh"' EXIT

bash scripts/setup.sh
# The digits have 8x8 pixels: a second thread waits more than it works.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
dpgen=.venv/bin/dpgen
mkdir -p "$out"

step="planning"
say "What will DP-SAD at epsilon 10 on the 1,437 training digits cost? No record is read for this."
"$dpgen" plan dp-sad --data digits --epsilon 10 --delta 1e-4

step="training"
say "Training under exactly that budget."
"$dpgen" train dp-sad --data digits --epsilon 10 --delta 1e-4 --out "$out/run" --seed 0

step="sampling"
say "Sampling 10,000 images. This spends nothing, however often it is done."
if [[ -e "$out/images" ]]; then
    if [[ ! -e "$out/.images-are-ours" ]]; then
        say "$out/images is there and this script did not make it: move it away first"
        exit 2
    fi
    rm -rf "$out/images"
fi
touch "$out/.images-are-ours"
rm -f "$out/preview.png" "$out/scores.json"
"$dpgen" sample "$out/run" -n 10000 --out "$out/images" --format folder --preview "$out/preview.png"

step="evaluating"
say "Comparing them with the 360 test digits, which training never saw."
"$dpgen" evaluate "$out/images" --reference digits --json "$out/scores.json"

step="verifying"
say "Recomputing epsilon from what ran, and checking every hash."
"$dpgen" verify "$out/run"
"$dpgen" verify "$out/images"

say "Done."
cat <<TEXT
  images             $out/images/<class>/*.png
  picture            $out/preview.png
  scores             $out/scores.json
  privacy statement  $out/images/privacy.json  (and $out/run/privacy.json)
TEXT
