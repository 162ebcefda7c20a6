"""Reads an isoflop store into pandas:

    import isoflop
    store = isoflop.read("runs")
    store.points                       # a row for each finished point: params, tokens, flops, loss, …
    store.curves                       # a row for each logged step
    store.runs                         # a row for each run: its settings, and how far it is

A store may be growing while it is read: a line that is not written to its end yet is left for the next look. Nothing is
written. `isoflop.find_binary()` is the path of the program that came with this package.
"""

import json
import pathlib
import shutil
import sys
import sysconfig

from . import files

__all__ = ["Store", "find_binary", "read"]


def read(store="runs"):
    """The runs of a store: a directory with a directory for each run, as `isoflop run` and `isoflop demo` make it."""
    return Store(store)


class Store:
    """A store's runs as data frames; each property reads anew."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        # A demo's folder has its store beside its page.
        if not files.runs(self.path) and files.runs(self.path / "runs"):
            self.path = self.path / "runs"
        if not files.runs(self.path):
            raise FileNotFoundError(f"{path} has no runs (a store has a folder with spec.json for each)")

    def __repr__(self):
        return f"isoflop.Store({str(self.path)!r}, {len(files.runs(self.path))} runs)"

    @property
    def runs(self):
        """A row for each run: `status`, and the settings of its recipe under dotted names."""
        rows = []
        for run in files.runs(self.path):
            rows.append({"run": run.name, "status": files.status(run), **files.settings(run)})
        return _frame(rows).set_index("run")

    @property
    def points(self):
        """A row for each finished point."""
        return self._log("points")

    @property
    def curves(self):
        """A row for each logged step of each run and segment (`trunk` and its branches)."""
        return self._log("metrics")

    @property
    def machine(self):
        """What the instruments saw: watts, degrees, shares of the processors."""
        return self._log("machine")

    @property
    def alarms(self):
        """What looked wrong."""
        return self._log("alarms")

    def law(self, path=None):
        """The fitted laws (`law.json`), of the file or folder given, else from beside the store."""
        path = pathlib.Path(path) if path else self.path.parent / "law.json"
        path = path / "law.json" if path.is_dir() else path
        return json.loads(path.read_text(encoding="utf-8"))

    def _log(self, name):
        rows = []
        for run in files.runs(self.path):
            rows += [{"run": run.name, **dict(files.leaves(record))} for record in files.records(run, name)]
        return _frame(rows)


def find_binary():
    """The path of the `isoflop` program, the one installed with this package first."""
    name = "isoflop.exe" if sys.platform == "win32" else "isoflop"
    for folder in (sysconfig.get_path("scripts"), sysconfig.get_path("scripts", _user_scheme())):
        if folder and (path := pathlib.Path(folder) / name).is_file():
            return str(path)
    if found := shutil.which("isoflop"):
        return found
    raise FileNotFoundError("the isoflop program is not beside this package nor on the PATH")


def _user_scheme():
    return sysconfig.get_preferred_scheme("user") if hasattr(sysconfig, "get_preferred_scheme") else "posix_user"


def _frame(rows):
    try:
        import pandas
    except ImportError as error:
        raise ImportError("reading a store into frames needs pandas: pip install 'isoflop[pandas]'") from error
    return pandas.DataFrame(rows)
