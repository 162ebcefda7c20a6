"""Every cell of every notebook runs, on a committed store."""

import json
import os
import pathlib

import pytest

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")

HERE = pathlib.Path(__file__).parent
STORE = HERE.parents[1] / "fixtures" / "store-1" / "runs"


@pytest.mark.parametrize("path", sorted((HERE.parent / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_cell_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("ISOFLOP_STORE", str(STORE))
    if "ISOFLOP" not in os.environ and "find_binary" in path.read_text(encoding="utf-8"):
        pytest.skip("set ISOFLOP to the binary")
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "notebooks are committed without outputs"
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
