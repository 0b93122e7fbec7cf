#!/bin/bash
# Slurm job: evaluate a checkpoint, ask the gates, and start the next stage only when they pass.
#
#   sbatch slurm.sh CANDIDATE [NEXT_JOB.sh ARGUMENT...]
#   sbatch --dependency=afterok:$TRAINING_JOB slurm.sh out/dpo/checkpoint-600 train_rl.sh out/dpo/checkpoint-600
#
# Settings from the environment: BASELINE (main), STORE (runs), POLICY (specs-eval.toml).
#SBATCH --job-name=specs-eval-check
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -u
candidate=${1:?usage: sbatch slurm.sh CANDIDATE [NEXT_JOB.sh ARGUMENT...]}
shift

# Two minutes before the time limit: queue again. What is evaluated is stored, and the same command continues it.
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

# In the background, because bash handles a signal only between two foreground commands.
srun specs-eval check --baseline "${BASELINE:-main}" --candidate "$candidate" --run \
    --store "${STORE:-runs}" --policy "${POLICY:-specs-eval.toml}" \
    --markdown "check-${SLURM_JOB_ID:-local}.md" &
wait $!
verdict=$?

case $verdict in
    0) echo "gates passed: $candidate" ;;
    1) echo "a gate closed: $candidate goes no further" >&2 ;;
    3) echo "undecided or not evaluated: $candidate waits for somebody to look" >&2 ;;
esac
if [ "$verdict" -eq 0 ] && [ "$#" -gt 0 ]; then
    sbatch "$@"
    exit
fi
exit "$verdict"
