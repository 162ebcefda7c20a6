"""The reader against a committed store of the first format, and against a damaged copy of it."""

import json
import pathlib
import shutil

import pytest

pandas = pytest.importorskip("pandas")

import isoflop  # noqa: E402

STORE = pathlib.Path(__file__).parents[2] / "fixtures" / "store-1" / "runs"


def test_points_are_those_of_the_exported_table():
    points = isoflop.read(STORE).points
    exported = pandas.read_csv(STORE.parent / "points.csv")
    both = points.merge(exported, on=["run", "tokens"], suffixes=("", "_exported"))
    assert len(both) == len(points) > 0
    assert list(both.loss) == pytest.approx(list(both.loss_exported), rel=1e-12)
    assert points.seconds.dtype == float and "blocks" not in points


def test_runs_and_curves_belong_together():
    store = isoflop.read(STORE)
    assert set(store.curves.run) == set(store.runs.index)
    assert set(store.runs.status) == {"done", "running"}
    assert store.curves.step.gt(0).any()


def test_a_demo_folder_and_a_line_half_written(tmp_path):
    shutil.copytree(STORE, tmp_path / "runs")
    before = len(isoflop.read(tmp_path).points)
    log = next((tmp_path / "runs").glob("*/points.jsonl"))
    with log.open("a") as file:
        file.write(json.dumps({"loss": 1.0})[:-3])
    assert len(isoflop.read(tmp_path).points) == before


def test_what_is_no_store_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no runs"):
        isoflop.read(tmp_path)
