"""A store's files, in plain Python: what the frames of `isoflop.read` and the scripts in `tools/` are made of.

A run is a directory with `spec.json` in it. A log is JSON Lines; a last line that is not written to its end yet is left
for the next look.
"""

import json
import pathlib

__all__ = ["leaves", "records", "runs", "settings", "status"]


def runs(store):
    """The run directories of a store, by name; none where there is no such directory."""
    store = pathlib.Path(store)
    return sorted(path.parent for path in store.glob("*/spec.json")) if store.is_dir() else []


def records(run, log):
    """The whole records of a run's log (`metrics`, `points`, `machine`, `alarms`), oldest first."""
    path = run / f"{log}.jsonl"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def settings(run):
    """The run's recipe as one flat dictionary with dotted names."""
    spec = json.loads((run / "spec.json").read_text(encoding="utf-8"))
    return dict(leaves(spec.get("run", spec)))


def status(run):
    """How far the run is: `running`, `done`, …"""
    path = run / "status.json"
    return json.loads(path.read_text(encoding="utf-8"))["status"] if path.exists() else "running"


def leaves(value, name=""):
    """Plain values under dotted names; lists are left out. A measured quantity is its value, absent where missing."""
    if isinstance(value, dict) and "provenance" in value:
        if "value" in value:
            yield name, value["value"]
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, f"{name}.{key}" if name else key)
    elif value is not None and not isinstance(value, list):
        yield name, value
