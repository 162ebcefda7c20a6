"""Reads a run directory of an isoflop store, finished or growing. Needs nothing but Python.

A log is JSON Lines; a last line that is not written to its end yet is left for the next look.
"""

import json
import pathlib
import time

# Numbers of a row that a tracker plots; the others say where the row belongs.
SCALARS = ("train_loss", "val_loss", "lr", "grad_norm", "tokens_per_s", "data_wait")


def runs(store, names=()):
    """The run directories of a store, or those named."""
    found = sorted(path.parent for path in pathlib.Path(store).glob("*/spec.json"))
    if names:
        missing = set(names) - {path.name for path in found}
        if missing:
            raise SystemExit(f"{store} has no run {', '.join(sorted(missing))}")
        found = [path for path in found if path.name in names]
    if not found:
        raise SystemExit(f"{store} has no runs\nhint: name a store, such as study/runs")
    return found


def records(run, log):
    """The whole records of a log (`metrics`, `points`, `machine`, `alarms`), oldest first."""
    path = run / f"{log}.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def settings(run):
    """The run's recipe as one flat dictionary with dotted names."""
    spec = json.loads((run / "spec.json").read_text())

    def leaves(value, name):
        if isinstance(value, dict):
            for key, member in value.items():
                yield from leaves(member, f"{name}.{key}" if name else key)
        elif isinstance(value, (int, float, str, bool)):
            yield name, value

    return dict(leaves(spec.get("run", spec), ""))


def status(run):
    path = run / "status.json"
    return json.loads(path.read_text())["status"] if path.exists() else "running"


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
