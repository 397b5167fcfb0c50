#!/usr/bin/env bash
# Draws a synthetic set as an array job, a part on each machine, and joins the parts: the same set,
# image for image, as `dpgen sample` draws in one process.
#
#   bash scripts/slurm/sample.sh 16 /shared/run -n 1000000 --seed 7 --format npz --out /shared/set
#
# The first argument is the number of parts; the others are given to `dpgen sample`, among them
# --seed, so that all parts are of one set, and --out, whose parts lie beside it in SET.parts until
# they are joined. SBATCH_OPTIONS holds options of sbatch for the parts, as in
# SBATCH_OPTIONS="--gpus 1 --time 1:00:00"; the environment is handed on. A part that failed is
# drawn again by the same command, which keeps the parts that are there.
#SBATCH --job-name=dpgen-sample
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

usage() {
    echo "usage: bash $0 PARTS RUN --seed SEED --out SET [options of dpgen sample]" >&2
    exit 2
}

task="${1:-}"
shift || usage
out="" seeded="" given=()
while (( $# )); do
    case "$1" in
        --out) out="${2:-}"; shift 2 || usage; continue ;;
        --out=*) out="${1#--out=}"; shift; continue ;;
        --seed | --seed=*) seeded=yes ;;
        --shard | --shard=*) usage ;;
    esac
    given+=("$1")
    shift
done
[[ -n "$out" && ( -n "$seeded" || "$task" == join ) ]] || usage

case "$task" in
    part)  # of the array job
        index="$SLURM_ARRAY_TASK_ID" n_parts="$SLURM_ARRAY_TASK_COUNT"
        part="$out.parts/$index"
        # A part is whole or absent: one that is there needs not be drawn again.
        if [[ -e "$part/dpgen-part.json" ]]; then
            echo "part $index of $n_parts is there"
        else
            python -m dpgen sample "${given[@]}" --shard "$index/$n_parts" --out "$part"
        fi
        ;;
    join)  # after it
        if [[ ! -e "$out/privacy.json" && ! -e "$out/notice.json" ]]; then  # of an earlier try
            python -m dpgen join "$out".parts/* --out "$out"
        fi
        rm -rf -- "$out.parts"
        ;;
    *)
        [[ "$task" =~ ^[1-9][0-9]*$ ]] || usage
        read -ra options <<< "${SBATCH_OPTIONS:-}"
        job="$(sbatch --parsable --array "1-$task" ${options[@]+"${options[@]}"} \
            "$0" part "${given[@]}" --out "$out")"
        sbatch --parsable --dependency "afterok:${job%%;*}" --kill-on-invalid-dep=yes \
            "$0" join --out "$out" > /dev/null
        echo "job ${job%%;*}: $task parts of $out, which are joined when all are drawn"
        ;;
esac
