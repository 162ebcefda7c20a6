"""What the scripts that log a store to a tracker read of it, finished or growing. Needs nothing but Python.

The reader of files is that of `python/isoflop`, taken from this checkout: no wheel need be installed.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from isoflop import files  # noqa: E402
from isoflop.files import records, settings, status  # noqa: E402

__all__ = ["records", "rows", "runs", "scalars", "settings", "status"]

# Numbers of a row that a tracker plots; the others say where the row belongs.
SCALARS = ("train_loss", "val_loss", "lr", "grad_norm", "tokens_per_s", "data_wait", "skipped")


def runs(store, names=()):
    """The run directories of a store, or those named."""
    found = files.runs(store)
    if names:
        missing = set(names) - {path.name for path in found}
        if missing:
            raise SystemExit(f"{store} has no run {', '.join(sorted(missing))}")
        found = [path for path in found if path.name in names]
    if not found:
        raise SystemExit(f"{store} has no runs\nhint: name a store, such as study/runs")
    return found


def rows(run, begin=0, follow=False):
    """The rows of the training curve from number `begin` on; with `follow` until the run is over."""
    while True:
        over = not follow or status(run) != "running"
        found = records(run, "metrics")
        yield from found[begin:]
        begin = max(begin, len(found))
        if over:
            return
        time.sleep(2)


def scalars(row):
    """`trunk/train_loss` and the like: a branch repeats the steps of its trunk, so each segment has its own."""
    return {f"{row['segment']}/{name}": row[name] for name in SCALARS if row.get(name) is not None}
