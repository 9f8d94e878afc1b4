#!/usr/bin/env bash
# Makes the tables of docs/results.md: this project's own small reward models on public sets.
#
#   benchmarks/results.sh DATA OUTPUT
#
# DATA holds the sets, as published:
#   medical-meadow/medical_meadow_small.json, to train on
#   llmbar-processed/*.json, pandalm/testset-v1.json, medhallu/train.jsonl, medec/validation.csv,
#   ultramedical-preference/validation.jsonl, to evaluate
# OUTPUT keeps models and evaluations. The same command again goes on where it was.
set -euo pipefail

[[ $# -eq 2 && -d $1 ]] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 output=$2 port=${PORT:-8135}
server=http://127.0.0.1:$port
mkdir -p "$output/models"

# Rotary positions have no weights: both models are those of their recipes, and may read on.
longer=(--set policy.scratch.max_positions=4096)

train() {
  local models=$output/models recipe=recipes/quickstart.toml meadow=recipes/medical-meadow.toml
  [[ -d $models/clinic-base ]] ||
    medpref train sft $recipe "${longer[@]}" --output "$models/clinic-base"
  [[ -d $models/clinic ]] ||
    medpref train reward $recipe "${longer[@]}" --base "$models/clinic-base" --output "$models/clinic"
  [[ -d $models/meadow ]] || {
    [[ ! -d $output/meadow-run ]] || longer+=(--resume)
    medpref align $meadow "${longer[@]}" --set rounds=1 --run-dir "$output/meadow-run" \
      --set data.path="$data/medical-meadow/medical_meadow_small.json"
    cp -r "$output/meadow-run/reward_model" "$models/meadow"
  }
}

# A server without a cache: what is asked twice is computed twice.
serve() {
  cat > "$output/server.toml" <<TOML
port = $port
cache_entries = 0

[models.clinic]
kind = "sequence_classification"
model = "$output/models/clinic"
dtype = "float32"

[models.meadow]
kind = "sequence_classification"
model = "$output/models/meadow"
dtype = "float32"
TOML
  medpref serve reward --config "$output/server.toml" > "$output/server.log" 2>&1 &
  trap 'kill $! && wait $! || true' EXIT
  until curl --silent --fail "$server/health/ready" > /dev/null; do
    kill -0 $! 2> /dev/null || { cat "$output/server.log" >&2; exit 1; }
    sleep 1
  done
}

evaluate() { # SET FILE...: both models, all controls
  local set=$1
  shift
  for model in clinic meadow; do
    medpref bench pairs "$@" --server "$server" --model $model --skip-bad \
      --output "$output/evaluations/$set/$model"
  done
}

sizes() { # the same pairs in requests, and in batches, of 1, 2, 3, 17 and 64
  local pairs=("$data/medhallu/train.jsonl" "$data"/llmbar-processed/*.json)
  local model=$output/models/meadow folder=$output/sizes
  for size in 1 2 3 17 64; do
    medpref bench pairs "${pairs[@]}" --server "$server" --model meadow --controls none \
      --groups-per-request $size --output "$folder/float32-http-$size"
    for dtype in float32 bfloat16; do
      medpref bench pairs "${pairs[@]}" --model-path "$model" --dtype $dtype --controls none \
        --max-batch-tokens $((400 * size)) --output "$folder/$dtype-in-process-$size"
    done
  done
}

train
serve
evaluate llmbar "$data"/llmbar-processed/*.json
evaluate pandalm "$data/pandalm/testset-v1.json"
evaluate medhallu "$data/medhallu/train.jsonl"
evaluate medec "$data/medec/validation.csv"
evaluate ultramedical "$data/ultramedical-preference/validation.jsonl"
sizes
medpref bench table "$output/evaluations" --sections --markdown
medpref bench table "$output/sizes" --markdown
