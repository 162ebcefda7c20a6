#!/usr/bin/env python3
"""What the instruments cost:  bench/instruments.py [--isoflop target/release/isoflop] [--rounds 7] [--seconds 8] [--page]

Trains the smallest and the largest model of the demo through the whole loop, with all instruments and without them
(`[meter] sample = false`), in turns, the first to go changing from round to round, each in a fresh store. Prints the
seconds of training of each, the ratio of their medians and of their bests, and the load of the machine meanwhile: where
others work, only ratios of many rounds say anything. What is compared is the time of training alone, which the run
notes itself; evaluation and checkpoints are in neither.

With --page the instruments are on in both, and what comes and goes is `isoflop watch` on the store with an open page,
which reads its news as a browser would, and draws them in one where Chromium and `websocket-client` are there
(fixtures/requirements-watch.txt).
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request

SIZES = {"L2-d24-h2": 1.3e6, "L5-d160-h10": 5e4}  # tokens/s of two cores, roughly: for the length of a round


@contextlib.contextmanager
def page(isoflop, store):
    """`isoflop watch` on the store, with one page open."""
    watch = subprocess.Popen([isoflop, "watch", store, "--port", "0"], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
    url = watch.stdout.readline().strip()
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "fixtures"))
    try:
        import browser

        web = browser.Browser() if browser.chromium() else None
    except ImportError:
        web = None
    if web:
        web.open(url)
    else:
        def read():
            with contextlib.suppress(OSError), urllib.request.urlopen(url + "events") as news:
                while news.read1(1 << 16):
                    pass

        threading.Thread(target=read, daemon=True).start()
    try:
        yield
    finally:
        if web:
            web.close()
        watch.terminate()
        watch.wait()


def seconds(isoflop, shape, tokens, instruments, watched=False):
    with tempfile.TemporaryDirectory() as folder:
        study = pathlib.Path(folder) / "study.toml"
        study.write_text(
            f'name = "b"\n[data]\ncorpus = "builtin"\n[series]\nmodels = ["{shape}"]\ntokens = {tokens}\n'
            f'[train]\ncontext = 256\nbatch_tokens = 2048\nschedule = "cosine"\neval_every = "50%"\n'
            f"eval_tokens = 4096\n[meter]\nsample = {'true' if instruments else 'false'}\n"
        )
        command = [isoflop, "--store", f"{folder}/runs", "run", study, "--out", f"{folder}/out"]
        with page(isoflop, f"{folder}/runs") if watched else contextlib.nullcontext():
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        points = list(pathlib.Path(folder).glob("runs/*/points.jsonl"))
        if not points:
            raise SystemExit(done.stderr)
        return json.loads(points[0].read_text().splitlines()[-1])["seconds"]["value"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isoflop", default="target/release/isoflop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8.0, help="about how long each training takes")
    parser.add_argument("--page", action="store_true", help="compare with and without an open page instead")
    args = parser.parse_args()
    print("| size | without, s median (best) | with | ratio of medians | of bests | load |")
    print("|---|---|---|---|---|---|")
    for shape, rate in SIZES.items():
        first = seconds(args.isoflop, shape, round(rate * 2 / 2048) * 2048, True)
        tokens = max(1, round(rate * 2 / first * args.seconds / 2048)) * 2048
        found, loads = {True: [], False: []}, []
        for turn in range(args.rounds):
            for on in (True, False) if turn % 2 == 0 else (False, True):
                instruments, watched = (True, on) if args.page else (on, False)
                found[on].append(seconds(args.isoflop, shape, tokens, instruments, watched))
                loads.append(os.getloadavg()[0])
        median = {on: statistics.median(times) for on, times in found.items()}
        best = {on: min(times) for on, times in found.items()}
        cells = [f"{median[on]:.3f} ({best[on]:.3f})" for on in (False, True)]
        ratios = [f"{100 * (of[True] / of[False] - 1):+.2f} %" for of in (median, best)]
        print(f"| {shape} | {' | '.join(cells + ratios)} | {min(loads):.1f} to {max(loads):.1f} |", flush=True)


if __name__ == "__main__":
    main()
