#!/usr/bin/env python3
"""Whether two binaries train the same bits:  bench/bit_equality.py OLD NEW [--tokens 2.4M] [--work DIR]

Runs `demo --preset quick` with both, in f32 and, where the machine multiplies it, in bf16, and compares loss,
FLOPs and steps of every row of points.csv as text. A finished run of the same binary (by hash) and settings
is not run again. Leaves with 1 where a cell differs.
"""

import argparse
import csv
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

COLUMNS = ["run", "tokens", "loss", "loss_se", "flops", "flops_6nd", "steps"]


def points(binary, precision, kernels, tokens, work):
    """Rows of points.csv by this binary, as {(run, tokens): {column: text}}."""
    name = hashlib.sha256(pathlib.Path(binary).read_bytes()).hexdigest()[:12]
    out = work / f"{name}-{kernels or 'auto'}-{precision}-{tokens or 'quick'}"
    file = out / "points.csv"
    if not file.exists():
        command = [binary, "demo", "--preset", "quick", "--out", out, "--set", f"train.precision={precision}"]
        if tokens:
            command += ["--set", f"series.tokens={tokens}", "--set", "series.branches=[]"]
            command += ["--set", "train.eval_tokens=32k"]
        environment = {**os.environ, **({"ISOFLOP_KERNELS": kernels} if kernels else {})}
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if "is not computed under kernel set" in done.stderr:
            return None
        if done.returncode not in (0, 3):
            sys.exit(f"{binary}: {done.stderr}")
    with file.open() as rows:
        return {(row["run"], row["tokens"]): {c: row[c] for c in COLUMNS} for row in csv.DictReader(rows)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--tokens", help="one point of so many tokens a run instead of the preset's three")
    parser.add_argument("--kernels", help="kernel set instead of the fastest")
    parser.add_argument("--work", type=pathlib.Path, help="where runs are kept for another comparison")
    args = parser.parse_args()
    work = args.work or pathlib.Path(tempfile.mkdtemp())
    differing = 0
    for precision in ("f32", "bf16"):
        old, new = (points(b, precision, args.kernels, args.tokens, work) for b in (args.old, args.new))
        if old is None or new is None:
            print(f"{precision}: not computed by this machine")
            continue
        unequal = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        print(f"{precision}: {len(old)} points, {len(old) - len(unequal)} equal in {', '.join(COLUMNS)}")
        for key in unequal:
            print(f"  {key}: {old.get(key)} != {new.get(key)}")
        differing += len(unequal)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
