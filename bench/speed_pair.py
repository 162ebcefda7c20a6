#!/usr/bin/env python3
"""Whether two binaries train at the same speed:  bench/speed_pair.py OLD NEW [--rounds 5] [--seconds 1.5]

Times `bench train` at the demo's sizes with both binaries in turns, the first to go changing from round to round, and
prints the best and the median tokens/s of each and the ratio of the bests. Measure on an idle machine.
"""

import argparse
import json
import statistics
import subprocess

SIZES = [(2, 24, 2), (2, 32, 2), (2, 48, 3), (3, 64, 4), (4, 80, 5), (4, 112, 7), (5, 160, 10)]


def tokens_per_s(binary, size, steps):
    layers, width, heads = size
    command = [binary, "bench", "train", "--json", "--layers", layers, "--width", width, "--heads", heads]
    command += ["--vocab", 256, "--context", 256, "--batch", 8, "--steps", steps, "--warmup", 3]
    return json.loads(subprocess.check_output([str(part) for part in command]))["tokens_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="about how long each timing takes")
    args = parser.parse_args()
    print("| size | old, tokens/s best (median) | new | new/old |")
    print("|---|---|---|---|")
    for size in SIZES:
        rate = tokens_per_s(args.old, size, 5)
        steps = max(5, round(args.seconds * rate / 2048))
        old, new = [], []
        for turn in range(args.rounds):
            pair = [(args.old, old), (args.new, new)]
            for binary, found in pair if turn % 2 == 0 else reversed(pair):
                found.append(tokens_per_s(binary, size, steps))
        cells = [f"{max(v):,.0f} ({statistics.median(v):,.0f})" for v in (old, new)]
        name = "L{} d{}".format(*size)
        print(f"| {name} | {cells[0]} | {cells[1]} | {max(new) / max(old):.3f} |", flush=True)


if __name__ == "__main__":
    main()
