#!/usr/bin/env python3
"""Memory as planned: what `isoflop plan` says before anything is allocated against what a training step takes.

    python3 bench/memory.py [--isoflop target/release/isoflop] [--limit-gb 14] [--only L12]

Six shapes from 10 k to 150 M parameters, with and without recomputation and 8-bit moments, in both precisions. Of each:
the bytes `isoflop plan` counts, those `isoflop bench train` plans (the same, or this ends), and those measured: the
process's high-water mark after a step minus before the engine was made. They must agree within max(5 %, 8 MiB). What
needs more than the limit is not run; what does not fit a 16 GB machine is said with the change the plan names.
Standard library only. Leaves with 1 if anything disagrees.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

MIB = 1 << 20
# Layers, width, heads, vocabulary, context, sequences a micro-batch. The last two are GPT-2 124 M and the size and
# context at which a home reproduction overflowed 16 GB until it recomputed activations.
SHAPES = [
    (2, 16, 2, 256, 64, 8),
    (2, 48, 3, 256, 256, 8),
    (4, 128, 2, 4096, 256, 16),
    (8, 512, 8, 4096, 256, 8),
    (12, 768, 12, 50257, 1024, 1),
    (12, 1024, 16, 50257, 2048, 1),
]
# Counted, not run: the same size with more sequences at once.
COUNTED = [(12, 1024, 16, 50257, 2048, n) for n in (4, 8, 16)]
HOME_GB = 16


def study(shape, precision, recompute, optimizer, threads):
    layers, width, heads, vocab, context, batch = shape
    return f"""name = "memory"
[data]
train = "train.bin"
val = "val.bin"
vocab = {vocab}
[series]
models = ["L{layers}-d{width}-h{heads}"]
tokens = {100 * batch * context}
[train]
context = {context}
batch_tokens = {batch * context}
micro_batch = {batch}
precision = "{precision}"
recompute = "{recompute}"
optimizer = "{optimizer}"
lr = 1e-4
threads = {threads}
"""


def plan(isoflop, folder, text, memory_gb):
    """Bytes planned and, if that is more than the memory, what the refusal advises."""
    with open(os.path.join(folder, "study.toml"), "w", encoding="utf-8") as file:
        file.write(text)
    command = [isoflop, "plan", "study.toml", "--no-timing", "--json", "--memory", f"{memory_gb}G"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if not done.stdout:
        sys.exit(done.stderr)
    hint = re.search(r"hint: (.*)", done.stderr)
    return json.loads(done.stdout)["peak_memory_bytes"], hint.group(1) if done.returncode else None


def step(isoflop, shape, precision, recompute, optimizer, threads):
    """The JSON document of one training step."""
    layers, width, heads, vocab, context, batch = shape
    command = [isoflop, "bench", "train", "--json", "--steps", "1", "--warmup", "0"]
    for name, value in [
        ("layers", layers), ("width", width), ("heads", heads), ("vocab", vocab), ("context", context),
        ("batch", batch), ("precision", precision), ("recompute", recompute), ("optimizer", optimizer),
        ("threads", threads),
    ]:  # fmt: skip
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--isoflop", default=os.path.join(here, "..", "target", "release", "isoflop"))
    parser.add_argument("--limit-gb", type=float, default=14.0, help="plans above this are not run")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--precision", choices=["f32", "bf16"], help="only this one")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    isoflop = os.path.abspath(args.isoflop)
    doctor = json.loads(subprocess.run([isoflop, "doctor", "--json"], capture_output=True, text=True).stdout)
    kernels = doctor["kernels"]
    precisions = ["f32"] + (["bf16"] if kernels["precision"].get("value") == "bf16" else [])
    precisions = [p for p in precisions if args.precision in (None, p)]
    print(f"kernels {kernels['chosen'].get('value')}, {args.threads} threads; MiB")
    print(f"{'shape, vocabulary, context x batch':36} {'':4} {'recompute':9} {'optimizer':9} "
          f"{'planned':>9} {'measured':>9} {'off':>7} {'allowed':>7}")  # fmt: skip
    wrong, run = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("train.bin", "val.bin"):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(bytes(1 << 20))  # half a million tokens of two bytes, all 0
        for shape in SHAPES + COUNTED:
            layers, width, heads, vocab, context, batch = shape
            words = f"L{layers}-d{width}-h{heads}, {vocab}, {context} x {batch}"
            if args.only not in words:
                continue
            for precision in precisions:
                for recompute in ("none", "block"):
                    for optimizer in ("adamw", "adamw8bit"):
                        how = (precision, recompute, optimizer, args.threads)
                        planned, advice = plan(isoflop, folder, study(shape, *how), HOME_GB)
                        line = f"{words:36} {precision:4} {recompute:9} {optimizer:9} {planned / MIB:9.1f} "
                        home = f"over {HOME_GB} GB: {advice}" if advice else ""
                        if shape in COUNTED or planned > args.limit_gb * 1e9:
                            why = "counted" if shape in COUNTED else "too big to run"
                            print(line + f"{why}; {home or f'fits {HOME_GB} GB'}", flush=True)
                            continue
                        found = step(isoflop, shape, *how)
                        if found["planned_memory_bytes"] != planned:
                            sys.exit(f"{words}: `plan` says {planned}, `bench train` {found}")
                        off = found["peak_memory_bytes"] - planned
                        allowed = max(0.05 * planned, 8 * MIB)
                        bad = abs(off) > allowed
                        wrong, run = wrong + bad, run + 1
                        print(line + f"{found['peak_memory_bytes'] / MIB:9.1f} {off / MIB:+7.1f} "
                              f"{allowed / MIB:7.1f}{'  WRONG' if bad else ''}{'  ' + home if home else ''}",
                              flush=True)  # fmt: skip
    print(f"{run} steps run, {wrong} outside max(5 %, 8 MiB)")
    sys.exit(1 if wrong or not run else 0)


if __name__ == "__main__":
    main()
