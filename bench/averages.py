#!/usr/bin/env python3
"""Does an average of weights do what a decay of the rate does? The demo's recipe beside averages of a constant rate's end.

    bench/averages.py [--models L2-d32-h2 L3-d64-h4] [--tokens 4M] [--seeds 1 2 3]

Trains each model twice per seed: with the demo's decay over the last half, and at a constant rate with a checkpoint
every fortieth of the way in its last half. Weights of the last checkpoints are averaged, over several shares of the way, and scored on
the same held-out tokens (`isoflop eval --builtin`). Printed is the mean over seeds of the loss, and its paired
difference to the decayed run's with a 95 % interval (Student's). Needs numpy, safetensors and a release build.
"""
import argparse
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
ISOFLOP = os.environ.get("ISOFLOP", ROOT / "target/release/isoflop")
POINTS = 40
SHARES = (0.1, 0.2, 0.3, 0.5)
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}
STUDY = """
name = "{name}"
kind = "scaling"
[data]
corpus = "builtin"
[series]
models = {models}
tokens = {tokens}
branches = {branches}
seeds = {seeds}
[train]
context = 256
batch_tokens = 2048
precision = "f32"
schedule = "wsd"
decay = "{decay}"
warmup = "5%"
beta2 = 0.99
eval_every = "50%"
eval_tokens = "64k"
"""


def isoflop(*args):
    ran = subprocess.run([ISOFLOP, *args], check=True, capture_output=True, text=True)
    return ran.stdout


def points(store, run):
    """Directories of a run's finished points, by rising tokens."""
    found = (store / run / "checkpoints").glob("point-*")
    return sorted(found, key=lambda path: int(path.name.removeprefix("point-")))


def score(folder, limit):
    return json.loads(isoflop("eval", "--json", "--builtin", "--limit", limit, "--checkpoint", folder))["loss"]


def averaged(folders, into):
    """The mean of the checkpoints' weights, as a checkpoint."""
    shutil.rmtree(into, ignore_errors=True)
    # Not the manifest: it vouches for the weights that were there.
    shutil.copytree(folders[-1], into, ignore=shutil.ignore_patterns("MANIFEST.json", "optimizer.*", "state.json"))
    files = [load_file(folder / "model.safetensors") for folder in folders]
    mean = {name: np.mean([f[name].astype(np.float64) for f in files], 0).astype(np.float32) for name in files[0]}
    save_file(mean, into / "model.safetensors", {"format": "pt"})
    return into


def interval(values):
    """Mean and half its 95 % interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.4f}"
    half = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.4f} ± {half:.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["L2-d32-h2", "L3-d64-h4"])
    parser.add_argument("--tokens", type=float, default=4e6)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--limit", default="1M", help="held-out tokens")
    parser.add_argument("--keep", type=pathlib.Path, help="a directory for the stores, resumed if it is there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = args.keep or pathlib.Path(scratch)
        scratch.mkdir(exist_ok=True)
        store = scratch / "runs"
        last_half = [round(args.tokens * i / POINTS) for i in range(POINTS // 2, POINTS)]
        for name, decay, branches in (("decayed", "50%", []), ("constant", "0.01%", last_half)):
            study = scratch / f"{name}.toml"
            study.write_text(STUDY.format(
                name=name, decay=decay, models=json.dumps(args.models), seeds=args.seeds,
                tokens=int(args.tokens), branches=branches))
            isoflop("run", study, "--store", store, "--out", scratch / name)
        for model in args.models:
            decayed = [score(points(store, f"decayed-{model}-s{seed}")[-1], args.limit) for seed in args.seeds]
            print(f"{model}: {statistics.mean(decayed):.4f} nats/token, decay over the last half")
            for share in (0, *SHARES):
                losses = []
                for seed in args.seeds:
                    folders = points(store, f"constant-{model}-s{seed}")
                    last = folders[-max(1, round(share * POINTS)):]
                    losses.append(score(averaged(last, scratch / "average"), args.limit))
                against = interval([ours - theirs for ours, theirs in zip(losses, decayed, strict=True)])
                what = f"average of the last {share:.0%}" if share else "constant rate, its end"
                print(f"  {what}: {statistics.mean(losses):.4f}, {against} above it")


if __name__ == "__main__":
    main()
