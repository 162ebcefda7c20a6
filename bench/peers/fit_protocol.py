#!/usr/bin/env python3
"""The published fitting protocol as the public notebooks run it, timed on the same machine as ours.

Chinchilla's form on the 234 rows of crates/laws/data/chinchilla_cloud.csv: 4,500 starts, then 4,000 bootstrap refits, each a
scipy BFGS with numeric gradients of the summed Huber objective (as in Epoch's analysis notebook, arXiv 2404.10102). A fraction is timed
and scaled. The PyPI package `chinchilla` fits the same rows with its own grid and objective.

    python3 -m venv .venv && .venv/bin/pip install numpy==2.* scipy==1.17.* pandas==2.* chinchilla==0.2.*
    .venv/bin/python bench/peers/fit_protocol.py [starts timed, default 30]
    cargo run --release -p isoflop-laws --example protocol       # ours, whole

Versions of the run that the figures in DECISIONS.md come from: Python 3.11, scipy 1.17.1, numpy 2.x.
"""
import itertools
import pathlib
import sys
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

    try:
        from chinchilla import Chinchilla
    except ImportError:
        print("PyPI package chinchilla: not installed")
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "df.csv").write_text(ROWS.read_text())
        grid = dict(
            E=np.linspace(1.4, 2, 5), A=np.linspace(1, 10, 5), B=np.linspace(1, 10, 5), alpha=np.linspace(0.1, 0.7, 5), beta=np.linspace(0.1, 0.7, 5)
        )
        cc = Chinchilla(folder, param_grid=grid, seed_ranges=dict(C=(1e15, 1e16), N_to_D=(10, 100)), log_level=50)
        begin = time.perf_counter()
        cc.fit()
        print(f"PyPI package chinchilla, one fit of its 3,125 starts: {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
