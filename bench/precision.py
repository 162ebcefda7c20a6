#!/usr/bin/env python3
"""Final losses under two settings of the engine, paired by size and seed.

    bench/precision.py [--isoflop PATH] [--out DIR] [--tokens 1.2M] [--threads N]

Trains the demo's sizes, three seeds each, in f32 and in bf16, and three of them with 8-bit AdamW in bf16; prints each
pair's difference and the mean with its 95 % interval (Student's t over pairs). A study that is finished is not run again.
"""
import argparse
import csv
import math
import pathlib
import subprocess

SIZES = ["L2-d24-h2", "L2-d32-h2", "L2-d48-h3", "L3-d64-h4", "L4-d80-h5", "L4-d112-h7", "L5-d160-h10"]
SOME = ["L2-d32-h2", "L3-d64-h4", "L4-d112-h7"]
SEEDS = [1, 2, 3]
# 97.5 % quantiles of Student's t for the numbers of pairs here, less one.
T = {8: 2.306, 20: 2.086}
STUDY = """name = "{name}"
kind = "scaling"
[data]
corpus = "builtin"
[series]
models = {models}
tokens = "{tokens}"
seeds = {seeds}
[train]
precision = "{precision}"
optimizer = "{optimizer}"
threads = {threads}
eval_tokens = "200k"
"""


def losses(args, name: str, models: list[str], precision: str, optimizer: str) -> dict[tuple[str, int], float]:
    """Trains the study, unless done, and reads each run's final loss, nats per token."""
    study = args.out / f"{name}.toml"
    models_text = "[" + ", ".join(f'"{m}"' for m in models) + "]"
    study.write_text(STUDY.format(name=name, models=models_text, tokens=args.tokens, seeds=SEEDS, precision=precision,
                                  optimizer=optimizer, threads=args.threads))
    out = args.out / name
    subprocess.run([args.isoflop, "run", study, "--store", args.out / "runs", "--out", out], check=True)
    with open(out / "points.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    return {(f"L{r['n_layer']}-d{r['d_model']}-h{r['n_head']}", int(r["seed"])): float(r["loss"]) for r in rows}


def compare(name: str, new: dict, old: dict) -> None:
    print(f"{name}, nats per token")
    pairs = sorted(new.keys() & old.keys(), key=lambda k: (SIZES.index(k[0]), k[1]))
    for size in dict.fromkeys(size for size, _ in pairs):
        each = [new[size, seed] - old[size, seed] for seed in SEEDS]
        spread = max(old[size, s] for s in SEEDS) - min(old[size, s] for s in SEEDS)
        print(f"  {size:12}", "  ".join(f"{d:+.4f}" for d in each), f"  seeds spread over {spread:.4f}")
    differences = [new[k] - old[k] for k in pairs]
    n = len(differences)
    mean = sum(differences) / n
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    half = T[n - 1] * deviation / math.sqrt(n)
    print(f"  mean of {n} pairs {mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isoflop", default="target/release/isoflop")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/precision"))
    parser.add_argument("--tokens", default="1.2M")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    f32 = losses(args, "prec-f32", SIZES, "f32", "adamw")
    bf16 = losses(args, "prec-bf16", SIZES, "bf16", "adamw")
    compare("bf16 less f32", bf16, f32)
    eight = losses(args, "prec-eight", SOME, "bf16", "adamw8bit")
    compare("8-bit AdamW less AdamW, both bf16", eight, bf16)


if __name__ == "__main__":
    main()
