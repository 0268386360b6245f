#!/usr/bin/env bash
# ctsearch under Slurm: `sbatch clusters/slurm.sh --data slices/ --name first` from the checkout, on a shared folder,
# with its .venv made. What follows the script's name are options of `ctsearch search`.
#
# The first node runs the driver and MLflow beside its own trials. Status: squeue; log: slurm-JOBID.out; stop, so that
# the search ends cleanly and goes on by `--resume first`: scancel --signal=TERM --batch JOBID.
#
# Validated by tests/cluster: the script with `srun` and `scontrol` played by stand-ins. NOT RUN YET under Slurm itself.
#SBATCH --job-name=ctsearch
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?this script is started by sbatch}"
# shellcheck disable=SC1091
source .venv/bin/activate

# Only who holds the token may speak to Ray: one for this job, in a file that only you can read.
RAY_AUTH_TOKEN_PATH="${CTSEARCH_HOME:-$HOME/.ctsearch}/slurm-$SLURM_JOB_ID.token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH RAY_USAGE_STATS_ENABLED=0
mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"; kill $(jobs -p) 2> /dev/null || true' EXIT

# A shared folder, so that trials find their checkpoints on any node; a node's own disk for what is decoded there.
export CTSEARCH_STORAGE="${CTSEARCH_STORAGE:-${CTSEARCH_HOME:-$HOME/.ctsearch}/storage}"
export CTSEARCH_NODE_DIR="${SLURM_TMPDIR:-/tmp}/ctsearch-$USER"

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(getent ahostsv4 "$head" | awk '{print $1; exit}')
export RAY_ADDRESS="$ip:$((20000 + SLURM_JOB_ID % 20000))"
share=(--disable-usage-stats --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --block)
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$ip" --port="${RAY_ADDRESS#*:}" --include-dashboard=false "${share[@]}" &
timeout 120 bash -c 'until ray health-check --address "$RAY_ADDRESS" 2> /dev/null; do sleep 1; done'
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then    # they are used as they join
    srun --overlap --nodes="$others" --ntasks="$others" --exclude="$head" \
        ray start --address="$RAY_ADDRESS" "${share[@]}" &
fi

# The search runs in this very script, so that Slurm's TERM, two minutes before the end, reaches it alone.
python search/run.py "$@" &
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
if kill -0 "$driver" 2> /dev/null; then    # `wait` was interrupted by the signal
    code=0
    wait "$driver" || code=$?
fi
exit "$code"
