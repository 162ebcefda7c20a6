#!/usr/bin/env python3
"""The published fitting protocol as the public notebooks run it, timed on the same machine as ours.

Chinchilla's form on the 234 rows of crates/laws/data/chinchilla_cloud.csv: 4,500 starts, then 4,000 bootstrap refits, each a
scipy BFGS with numeric gradients of the summed Huber objective (as in Epoch's analysis notebook, arXiv 2404.10102). A fraction is timed
and scaled. The PyPI package `chinchilla` fits the same rows with its own objective (asymmetric), of whose grid a fraction is timed, too.

    python3 -m venv .venv && .venv/bin/pip install numpy==2.* scipy==1.17.* pandas==2.* chinchilla==0.2.*
    .venv/bin/python bench/peers/fit_protocol.py [starts timed, default 30]
    cargo run --release -p isoflop-laws --example protocol       # ours, whole

Versions of the run that the figures in DECISIONS.md come from: Python 3.11, scipy 1.17.1, numpy 2.x.
"""
import itertools
import math
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

ROWS = pathlib.Path(__file__).resolve().parents[2] / "crates/laws/data/chinchilla_cloud.csv"


def huber(r, delta=1e-3):
    a = np.abs(r)
    return np.where(a <= delta, 0.5 * r * r, delta * (a - 0.5 * delta)).sum()


def main() -> None:
    timed = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    c, n, d, loss = np.loadtxt(ROWS, delimiter=",", skiprows=1).T
    ln_n, ln_d, y = np.log(n), np.log(d), np.log(loss)

    def objective(t, pick=slice(None)):
        a, b, e, alpha, beta = t
        terms = [a - alpha * ln_n[pick], b - beta * ln_d[pick], np.full_like(y[pick], e)]
        return huber(y[pick] - logsumexp(np.stack(terms), axis=0))

    grid = list(
        itertools.product(range(0, 30, 5), range(0, 30, 5), np.arange(-1, 1.1, 0.5), np.arange(0, 2.1, 0.5), np.arange(0, 2.1, 0.5))
    )
    rng = np.random.default_rng(0)
    starts = [grid[i] for i in rng.choice(len(grid), timed, replace=False)]
    begin = time.perf_counter()
    ends = [minimize(objective, s, method="BFGS") for s in starts]
    per_start = (time.perf_counter() - begin) / timed
    best = min(ends, key=lambda m: m.fun)
    begin = time.perf_counter()
    for _ in range(timed):
        pick = rng.integers(0, len(y), len(y))
        minimize(objective, best.x, args=(pick,), method="BFGS")
    per_refit = (time.perf_counter() - begin) / timed
    total = 4500 * per_start + 4000 * per_refit
    print(f"scipy BFGS, numeric gradients: {1e3 * per_start:.1f} ms a start, {1e3 * per_refit:.1f} ms a refit ({timed} of each timed)")
    print(f"whole protocol, scaled: {total:.0f} s on one core; best objective seen {best.fun:.12f}")

    package()


# The package has no option for a part of its grid: a grid of 2^5 starts, spread over the same range, stands for all.
PACKAGE_GRID = dict(E=[1.4, 2.0], A=[3, 8], B=[3, 8], alpha=[0.2, 0.6], beta=[0.2, 0.6])
PACKAGE_LIMIT_S = 300


def package() -> None:
    """Times one `fit()` of the PyPI package on a small grid in a process of its own, within a limit."""
    try:
        import chinchilla  # noqa: F401
    except ImportError:
        print("PyPI package chinchilla: not installed")
        return
    # Its pool forks one process per processor and fits in 80-bit numbers, one BFGS with numeric gradients a start.
    child = subprocess.Popen([sys.executable, __file__, "--package"], start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        out, _ = child.communicate(timeout=PACKAGE_LIMIT_S)
        print(out.strip())
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        print(f"PyPI package chinchilla: 32 starts did not end within {PACKAGE_LIMIT_S} s; no figure")


def package_child() -> None:
    from chinchilla import Chinchilla

    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "df.csv").write_text(ROWS.read_text())
        grid = {name: np.array(values, dtype=float) for name, values in PACKAGE_GRID.items()}
        cc = Chinchilla(folder, param_grid=grid, seed_ranges=dict(C=(1e15, 1e16), N_to_D=(10, 100)), log_level=50)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        begin = time.perf_counter()
        cc.fit()
        wall = time.perf_counter() - begin
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    starts = math.prod(len(v) for v in PACKAGE_GRID.values())
    print(f"PyPI package chinchilla: {starts} starts took {wall:.1f} s, {cpu:.1f} s of CPU time: {1e3 * cpu / starts:.0f} ms a start")
    print(f"it found E {cc.E:.3f}, A {cc.A:.1f}, B {cc.B:.1f}, alpha {cc.alpha:.4f}, beta {cc.beta:.4f}")
    print(f"scaled: 4,500 starts {4500 * cpu / starts:.0f} s of CPU time; it has no bootstrap")


if __name__ == "__main__":
    package_child() if "--package" in sys.argv else main()
