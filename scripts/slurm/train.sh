#!/usr/bin/env bash
# Trains over the nodes of a Slurm job: the same model, bit for bit, as one process would.
#
#   export DPGEN_HOME=/shared/dpgen          # ledgers and keys, on a file system that all nodes see
#   sbatch --nodes 2 --gpus-per-node 4 --time 4:00:00 scripts/slurm/train.sh \
#       dp-sad --data /shared/images.npz --epsilon 10 --delta 1e-5 --out /shared/run --yes
#
# Everything after the name of this file is given to `dpgen train`. The data, --out and DPGEN_HOME
# must lie on a file system that all nodes see and that supports locks (NFSv4; Lustre with -o flock).
# With another DPGEN_HOME the data set would have a second ledger, and the budgets would not add up.
# Records and gradients go from node to node without encryption: use nodes that you trust.
#
# A job that is requeued, by hand, after a preemption or by itself shortly before its time is over,
# goes on where it was and is charged once. So does the same sbatch command, with any number of
# nodes and processes of the same kind.
#
# PROCESSES is the number of processes on each node; by default one for each GPU, or for each core
# of the task (--cpus-per-task). OMP_NUM_THREADS is 1 by default; a resume must keep it.
#SBATCH --job-name=dpgen-train
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail

: "${SLURM_JOB_ID:?must be set: start this script with sbatch, see its first lines}"
: "${DPGEN_HOME:?must be set to a folder that all nodes see, see the first lines of this script}"
export DPGEN_HOME OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export PROCESSES="${PROCESSES:-${SLURM_GPUS_ON_NODE:-${SLURM_CPUS_PER_TASK:-1}}}"
# Process 0, which keeps the ledger and writes, is on the first node.
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_ADDR MASTER_PORT="${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}"

requeue() {
    echo "the time is nearly over: job $SLURM_JOB_ID is put back into the queue" >&2
    scontrol requeue "$SLURM_JOB_ID"
}
trap requeue USR1

# A failure of one process ends all; nothing restarts them within the job.
srun --kill-on-bad-exit=1 bash -c '
    exec python -m torch.distributed.run --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" \
        --nproc-per-node "$PROCESSES" --max-restarts 0 \
        --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" -m dpgen train "$@"
' train "$@" &
# A trapped signal ends `wait` early, and not what it waits for.
status=0
wait "$!" || status=$?
while (( status > 128 )) && kill -0 "$!" 2> /dev/null; do
    status=0
    wait "$!" || status=$?
done
exit "$status"
