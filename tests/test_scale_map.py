"""A scale curve at every checkpoint: one grid, reuse, what cannot be measured, the map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import linear, real_valued, refusal, rlct, run

import llc
from llc.checkpoints import save_checkpoint

GIVEN = {"gammas": [100.0, 10.0], "n_beta": 20.0, "chains": 2, "precision": 0.3}


def task():
    return llc.Task(linear(), real_valued(), "mse", name="toy")


@pytest.fixture(scope="module")
def mapped():
    return llc.scale_map(task(), run(3), **GIVEN)


def test_one_curve_a_checkpoint_on_one_grid(mapped):
    assert mapped.steps == (10, 20, 30)
    assert mapped.gammas.tolist() == [100, 10]
    alone = llc.scale_curve(task().at(run(3)[1][1]), **GIVEN)
    np.testing.assert_array_equal(mapped.curves[1].llc, alone.llc)
    grid = mapped.grid()
    assert grid.shape == (2, 3)
    for row in range(2):
        for column, curve in enumerate(mapped.curves):
            failed = curve.points[row].verdict.status == "fail"
            np.testing.assert_equal(grid[row, column], np.nan if failed else curve.llc[row])


def test_a_grid_that_nobody_gave_is_that_of_the_middle():
    given = {**GIVEN, "gammas": None, "budget": 400}
    found = llc.scale_map(task(), run(3), **given)
    middle = llc.scale_curve(task().at(run(3)[1][1]), **given)
    assert {curve.asked for curve in found.curves} == {middle.asked}


def test_finished_curves_are_reused_and_changed_ones_are_not(tmp_path):
    llc.scale_map(task(), run(2), out=tmp_path, **GIVEN)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "scales").iterdir()}
    pairs = run(2)
    pairs[1] = pairs[1][0], {**pairs[1][1], "bias": torch.ones(2)}
    again = llc.scale_map(task(), pairs, out=tmp_path, **GIVEN)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "scales").iterdir()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"0000020.json", "0000020.fingerprint"}
    loaded = llc.ScaleMap.load(tmp_path)
    assert loaded.steps == again.steps
    np.testing.assert_array_equal(loaded.grid(), again.grid())


def test_a_checkpoint_that_cannot_be_measured_is_named():
    pairs = run(2)
    pairs[0] = pairs[0][0], {**pairs[0][1], "bias": torch.full((2,), torch.nan)}
    found = llc.scale_map(task(), pairs, **GIVEN)
    assert found.steps == (20,)
    assert list(found.skipped) == [10]
    assert "no checkpoint could be measured" in refusal(
        lambda: llc.scale_map(task(), pairs[:1], **GIVEN)
    )
    assert "empty" in refusal(lambda: llc.scale_map(task(), [], **GIVEN))


def test_map_shows_each_cell_once(mapped):
    ax = llc.plot.scale_map(mapped).axes[0]
    mesh = ax.collections[0]
    np.testing.assert_allclose(mesh.get_array().filled(np.nan), mapped.grid())
    edges = mesh.get_coordinates()[:, 0, 1]
    assert ((edges[:-1] > mapped.gammas) & (mapped.gammas > edges[1:])).all()


def test_from_the_command_line(tmp_path):
    for step, weights in run(2):
        save_checkpoint(tmp_path / "c", step, weights, {})
    (tmp_path / "my.py").write_text(
        f"import sys; sys.path.append({str(Path(__file__).parent)!r})\nimport llc, tiny\n"
        "def task(): return llc.Task(tiny.linear(), tiny.real_valued(), 'mse')\n"
    )
    done = rlct(
        "trace", tmp_path / "c", "--task", f"{tmp_path / 'my.py'}:task", "--out", tmp_path / "r",
        "--n-beta", 20, "--gamma", 10, "--chains", 2, "--budget", 400, "--workers", 1, "--scales",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "figures" / "scales.svg").exists()
    drawn = rlct("plot", tmp_path / "r", "--figure", "scales", "-o", tmp_path / "m.png")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.split() == [str(tmp_path / "m.png"), str(tmp_path / "m.caption.txt")]
    none = rlct("plot", tmp_path / "c", "--figure", "scales")
    assert none.returncode == 2
