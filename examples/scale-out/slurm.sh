#!/usr/bin/env bash
# A map from many machines: `bash slurm.sh` submits an array of 16 shards and a job that merges them when all have ended.
# SOURCE, TARGET: model folders or ids. CORPUS: files of text. WORK: a folder shared by all nodes.
set -euo pipefail

: "${SOURCE:?}" "${TARGET:?}" "${CORPUS:?}" "${WORK:?}"
SHARDS=${SHARDS:-16}
PAIRS=${PAIRS:-relative-depth}
MAPPER=${MAPPER:-mapper}
export SOURCE TARGET CORPUS WORK SHARDS PAIRS MAPPER

case "${1:-submit}" in
submit)
    mkdir -p "$WORK"
    # --mem: both models, plus the memory printed by `mapper stats --plan`. --requeue: Slurm starts a preempted shard again, and it continues from its checkpoint.
    array=$(sbatch --parsable --requeue --array="0-$((SHARDS - 1))" --gres=gpu:1 --cpus-per-task=8 --mem=64G \
        --time=04:00:00 --output="$WORK/%x-%a.log" --job-name=stats "$0" shard)
    sbatch --dependency="afterok:$array" --cpus-per-task=8 --mem=64G --time=01:00:00 \
        --output="$WORK/%x.log" --job-name=fit "$0" fit
    ;;
shard)
    # shellcheck disable=SC2086 # CORPUS is a list of files.
    exec "$MAPPER" stats --source "$SOURCE" --target "$TARGET" --corpus $CORPUS --pairs "$PAIRS" \
        --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --out "$WORK/shard-$SLURM_ARRAY_TASK_ID.stats"
    ;;
fit)
    "$MAPPER" merge "$WORK"/shard-*.stats --out "$WORK/all.stats"
    exec "$MAPPER" fit --stats "$WORK/all.stats" --out "$WORK/map.toml"
    ;;
esac
