#!/usr/bin/env bash
# kill -9 at random moments of a small study, then the same command: does it end as if nothing had been?
#
#     bench/kills.sh [path to isoflop] [kills, 20 unless said] [seed]
#
# Trains three sizes on the built-in corpus once without interruption, once killed at random moments of the whole
# and run again each time, and compares weights, moments, losses and laws byte for byte. Prints the moments.
set -euo pipefail
isoflop=$(realpath "${1:-target/release/isoflop}")
kills=${2:-20}
RANDOM=${3:-1}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > study.toml <<'STUDY'
name = "kills"
kind = "scaling"
[data]
corpus = "builtin"
[series]
models = ["L1-d16-h1", "L2-d24-h2", "L2-d32-h2"]
tokens = "300k"
branches = ["100k"]
seeds = [1]
[train]
context = 128
batch_tokens = 2048
eval_tokens = "64k"
checkpoint_every = "200ms"
STUDY

# In a subshell of its own it replaces that shell, so that a signal to $! reaches it and nothing between.
go() { exec "$isoflop" run study.toml --store "$1/runs" --out "$1/out" >/dev/null 2>"$1.log"; }

# One line per thing that must not depend on interruptions.
end_state() {
    (cd "$1/runs" && find . -path '*/checkpoints/point-*' -name '*.safetensors' | sort | xargs sha256sum)
    python3 - "$1" <<'PY'
import csv, json, sys
for row in csv.DictReader(open(f"{sys.argv[1]}/out/points.csv")):
    print(row["run"], row["tokens"], row["loss"], row["loss_se"])
print(json.dumps(json.load(open(f"{sys.argv[1]}/out/law.json"))["fits"], sort_keys=True))
PY
}

started=$(date +%s%N)
mkdir whole killed
(go whole)
whole_ms=$((($(date +%s%N) - started) / 1000000))
echo "uninterrupted: $whole_ms ms"

for ((i = 1; i <= kills; i++)); do
    # A kill early in what is left, so that all of them find a study at work.
    after=$((50 + RANDOM * 2 * whole_ms / kills / 32768))
    go killed &
    sleep "$(printf '%d.%03d' $((after / 1000)) $((after % 1000)))"
    if kill -9 $! 2>/dev/null; then
        wait $! 2>/dev/null || true
        echo "kill $i after $after ms: $(find killed/runs -path '*checkpoints/point-*' -name model.safetensors 2>/dev/null | wc -l) points finished"
    else
        wait $! 2>/dev/null || true
        echo "kill $i: the study was already done"
    fi
done
(go killed)
if diff <(end_state whole) <(end_state killed); then
    echo "identical after $kills kills: $(end_state whole | grep -c safetensors) tensor files, losses, laws"
else
    echo "DIFFERENT after $kills kills" >&2
    exit 1
fi
