#!/usr/bin/env python3
"""What the instruments cost:  bench/instruments.py [--isoflop PATH] [--rounds 7] [--seconds 8] [--page | --profile]

Trains the smallest and the largest model of the demo through the whole loop, with all instruments and without them
(`[meter] sample = false`), in turns, the first to go changing from round to round, each in a fresh store. Prints the
seconds of training of each, the ratio of their medians and of their bests, and the load of the machine meanwhile: where
others work, only ratios of many rounds say anything. What is compared is the time of training alone, which the run
notes itself; evaluation and checkpoints are in neither. The last column does not depend on others' work: of the
process's time on processors, the share of the thread that reads the instruments (from Linux's /proc, looked at four
times a second).

With --profile each is trained once under `perf record` instead, and what is printed is of all samples of the process
those below the instruments' thread, and those in which rows and points are written: shares that others' work does not
move, logging among them, which no study can switch off.

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
import time
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


def threads(process):
    """Nanoseconds on processors of a process's threads, by name."""
    found = {}
    for task in pathlib.Path(f"/proc/{process}/task").glob("*"):
        with contextlib.suppress(OSError):
            name = (task / "comm").read_text().strip()
            found[name] = found.get(name, 0) + int((task / "schedstat").read_text().split()[0])
    return found


def train(command):
    """Runs it; what it said, and the share that its instruments' thread had of its time, where there is one."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([str(part) for part in command], stdout=said, stderr=said)
        share = None
        while process.poll() is None:
            now = threads(process.pid)
            if now.get("instruments"):
                share = now["instruments"] / sum(now.values())
            time.sleep(0.25)
        said.seek(0)
        return said.read(), share


def command_of(isoflop, folder, shape, tokens, instruments=True):
    study = pathlib.Path(folder) / "study.toml"
    study.write_text(
        f'name = "b"\n[data]\ncorpus = "builtin"\n[series]\nmodels = ["{shape}"]\ntokens = {tokens}\n'
        f'[train]\ncontext = 256\nbatch_tokens = 2048\nschedule = "cosine"\neval_every = "50%"\n'
        f"eval_tokens = 4096\n[meter]\nsample = {'true' if instruments else 'false'}\n"
    )
    return [isoflop, "--store", f"{folder}/runs", "run", study, "--out", f"{folder}/out"]


#: Functions whose samples, with all that they call, are shown: thread and end of the symbol.
PARTS = {
    "instruments": ("instruments", "std::sys::backtrace::__rust_begin_short_backtrace"),
    "rows and points": (None, "<isoflop_lab::record::RunRecorder as isoflop_lab::record::Recorder>::record"),
}


def profile(isoflop, shape, tokens):
    """Samples of a run, and the share of each of the parts in per cent."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "--call-graph", "dwarf,4096", "-o", data]
        train(record + command_of(isoflop, folder, shape, tokens))
        report = ["perf", "report", "-i", data, "--stdio", "--children", "-g", "none", "--no-inline",
                  "--percent-limit", "0", "--sort", "comm,symbol"]
        said = subprocess.run(report, capture_output=True, text=True).stdout
    samples = next((line.split(":")[1].split()[0] for line in said.splitlines() if line.startswith("# Samples")), "no")
    shares = dict.fromkeys(PARTS, 0.0)
    for line in said.splitlines():
        # "  0.16%     0.00%  instruments  [.] symbol   -   -"
        words = line.split(None, 4)
        for part, (thread, symbol) in PARTS.items():
            if len(words) == 5 and words[4].startswith(symbol) and thread in (None, words[2]):
                shares[part] += float(words[0].rstrip("%"))
    return samples, shares


def seconds(isoflop, shape, tokens, instruments, watched=False):
    with tempfile.TemporaryDirectory() as folder:
        command = command_of(isoflop, folder, shape, tokens, instruments)
        with page(isoflop, f"{folder}/runs") if watched else contextlib.nullcontext():
            said, share = train(command)
        points = list(pathlib.Path(folder).glob("runs/*/points.jsonl"))
        if not points:
            raise SystemExit(said)
        return json.loads(points[0].read_text().splitlines()[-1])["seconds"]["value"], share


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isoflop", default="target/release/isoflop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8.0, help="about how long each training takes")
    parser.add_argument("--page", action="store_true", help="compare with and without an open page instead")
    parser.add_argument("--profile", action="store_true", help="where the process's time goes, by `perf`")
    args = parser.parse_args()
    if args.profile:
        print(f"| size | samples | {' | '.join(PARTS)} |\n|---|---|{'---|' * len(PARTS)}")
        for shape, rate in SIZES.items():
            samples, shares = profile(args.isoflop, shape, round(rate * args.seconds / 2048) * 2048)
            print(f"| {shape} | {samples} | {' | '.join(f'{v:.2f} %' for v in shares.values())} |", flush=True)
        return
    print("| size | without, s median (best) | with | ratio of medians | of bests | load | instruments' thread |")
    print("|---|---|---|---|---|---|---|")
    for shape, rate in SIZES.items():
        first, _ = seconds(args.isoflop, shape, round(rate * 2 / 2048) * 2048, True)
        tokens = max(1, round(rate * 2 / first * args.seconds / 2048)) * 2048
        found, loads, shares = {True: [], False: []}, [], []
        for turn in range(args.rounds):
            for on in (True, False) if turn % 2 == 0 else (False, True):
                instruments, watched = (True, on) if args.page else (on, False)
                took, share = seconds(args.isoflop, shape, tokens, instruments, watched)
                found[on].append(took)
                shares += [share] if share is not None else []
                loads.append(os.getloadavg()[0])
        median = {on: statistics.median(times) for on, times in found.items()}
        best = {on: min(times) for on, times in found.items()}
        cells = [f"{median[on]:.3f} ({best[on]:.3f})" for on in (False, True)]
        ratios = [f"{100 * (of[True] / of[False] - 1):+.2f} %" for of in (median, best)]
        thread = f"{100 * statistics.median(shares):.3f} %" if shares else "–"
        load = f"{min(loads):.1f} to {max(loads):.1f}"
        print(f"| {shape} | {' | '.join([*cells, *ratios, load, thread])} |", flush=True)


if __name__ == "__main__":
    main()
