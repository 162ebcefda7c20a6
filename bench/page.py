#!/usr/bin/env python3
"""How soon the live page is there:  bench/page.py [--isoflop target/release/isoflop] [--runs 200] [--rows 10000]

Makes a store (fixtures/make_store.py), lets `isoflop watch` read it, and opens its page in headless Chromium several
times: milliseconds to the first paint, to the first drawing of data, to all data, the server's memory and the page's.
With --grow the store grows by so many rows a second meanwhile, and the frames of the page are counted. Needs Chromium
and fixtures/requirements-watch.txt; figures of a machine with other work say little, so its load is printed.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "fixtures"))
import browser  # noqa: E402
import make_store  # noqa: E402

#: When the page's first drawing of data was done, and when all data had come.
TIMES = """(() => { const marks = performance.getEntriesByName('shown').map((m) => m.startTime);
    const paint = performance.getEntriesByName('first-contentful-paint')[0];
    return [paint ? paint.startTime : -1, marks[0], marks[1] ?? marks[0], performance.memory.usedJSHeapSize]; })()"""
FRAMES = """new Promise((done) => { let n = 0; const began = performance.now(); const f = () => { n++;
    performance.now() - began < 10000 ? requestAnimationFrame(f) : done(n / 10); }; f(); })"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isoflop", default="target/release/isoflop")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grow", type=float, default=0.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = make_store.make(folder, args.runs, args.rows)
        for run in runs[: -1 if args.grow else None]:
            run.advance(args.rows)
        watch = subprocess.Popen([args.isoflop, "watch", folder, "--port", "0"], stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True)
        web = browser.Browser()
        try:
            url = watch.stdout.readline().strip()
            began = time.monotonic()
            while b'"reading":null' not in urllib.request.urlopen(url + "state.json").read():
                time.sleep(0.1)
            print(f"read in {time.monotonic() - began:.1f} s; load {os.getloadavg()[0]:.1f}")
            print("| first paint, ms | first data | all data | server, MB | page, MB |\n|---|---|---|---|---|")
            for _ in range(args.rounds):
                web.open("about:blank")
                web.open(url)
                web.until("import('/data.js').then((m) => m.known.full)", "all data", 120)
                time.sleep(1)
                paint, first, full, heap = web.run(TIMES)
                status = pathlib.Path(f"/proc/{watch.pid}/status").read_text()
                memory = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
                print(f"| {paint:.0f} | {first:.0f} | {full:.0f} | {memory:.0f} | {heap / 2**20:.0f} |", flush=True)
            if args.grow:
                stop = threading.Event()

                def write():
                    while not stop.wait(1 / args.grow):
                        runs[-1].advance(1, time.time())

                writer = threading.Thread(target=write)
                writer.start()
                print(f"{web.run(FRAMES):.0f} frames a second while {args.grow:.0f} rows a second come")
                stop.set()
                writer.join()
            print("complaints:", web.complaints)
        finally:
            web.close()
            watch.terminate()
            watch.wait()


if __name__ == "__main__":
    main()
