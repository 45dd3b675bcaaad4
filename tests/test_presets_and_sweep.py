"""Published settings, and grids of short runs in which nothing that failed is hidden."""

import json
import math

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex
from targets import quadratic
from tiny import labelled, linear, real_valued, refusal

import llc
from llc.estimator import estimate_task
from llc.presets import PRESETS
from llc.settings import SAMPLERS

H = [1.0, 0.3]
GRID = {"step_sizes": [1e-4, 1e-3, 5e-3], "gammas": [1.0, 100.0], "n_betas": [300.0, 1000.0]}
# Recording a step takes longer than so few.
OFF = llc.Execution(compile="off")
SHORT = {"draws": 30, "burn_in": 10, "chains": 2, "execution": OFF}


@pytest.fixture(scope="module")
def task():
    return quadratic(H)


@pytest.fixture(scope="module")
def grid(task):
    return llc.sweep(task, **GRID, **SHORT, n_beta=300.0, gamma=1.0, step_size=1e-3)


PUBLISHED = {
    "rllc": (1e-3, 30, 200, 4, 200, None, None, "2410.02984"),
    "icl": (1e-3, 60, 6, 8, 500, 500, 1024, "2402.02364"),
    "pythia-14m": (1e-3, 30, 300, 4, 100, None, 32, "2510.12077"),
    "pythia-6.9b": (3e-6, 30, 300, 4, 100, None, 32, "2510.12077"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_what_was_published(name):
    s = llc.Settings.preset(name)
    numbers = s.step_size, s.n_beta, s.gamma, s.chains, s.draws, s.burn_in, s.batch_size
    assert numbers == PUBLISHED[name][:-1]
    assert s.sampler in SAMPLERS
    text = str(s)
    assert PUBLISHED[name][-1] in text
    assert "scales with n_beta" in text
    assert "very same settings" in text
    # What the source leaves open is not made up, but said to be open.
    for field in ("burn_in", "batch_size"):
        assert (getattr(s, field) is not None) or "not stated" in s.reasons[field]


def test_every_preset_is_tested():
    assert set(PRESETS) == set(PUBLISHED)


def test_unknown_preset_lists_the_known_ones():
    message = refusal(lambda: llc.Settings.preset("gpt"))
    assert all(word in message for word in ("'gpt'", *PRESETS))


def test_a_preset_samples_what_it_says():
    task = llc.Task(linear(), labelled(), "cross_entropy")
    found = estimate_task(task, llc.Settings.preset("rllc"))
    assert (found.settings.step_size, found.settings.gamma) == (1e-3, 200)
    assert found.trace.shape == (4, 200)
    message = refusal(lambda: llc.calibrate(task, settings=llc.Settings.preset("icl")))
    assert "1024" in message
    assert "40" in message


def test_settings_are_kept_in_a_file(tmp_path):
    chosen = llc.Settings(gamma=3.0, draws=7, reasons={"gamma": "why not"})
    again = llc.Settings.load(chosen.save(tmp_path / "settings.json"))
    assert again == chosen
    assert again.reasons == chosen.reasons
    files = {
        "absent": None, "text": "gamma: 3", "list": "[1]", "other": '{"gama": 1}',
        "wrong": '{"gamma": -1}', "reasons": '{"reasons": ["no"]}',
    }  # fmt: skip
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        assert name in refusal(lambda name=name: llc.Settings.load(tmp_path / name))


def test_every_cell_is_the_estimate_of_its_settings(task, grid):
    assert grid.column("llc").shape == (2, 3, 2)
    for n, n_beta in enumerate(grid.n_betas):
        for j, gamma in enumerate(grid.gammas):
            cell = grid.cell(n, 1, j)
            assert (cell.n_beta, cell.step_size, cell.gamma) == (n_beta, 1e-3, gamma)
            alone = llc.estimate(
                task, n_beta=n_beta, gamma=gamma, step_size=1e-3, sampler="sgld", precision=0.1,
                budget=4000, draws=30, burn_in=10, chains=2, compile="off",
            )  # fmt: skip
            assert (cell.llc, cell.mcse, cell.status) == (
                alone.llc, alone.mcse, alone.verdict.status,
            )  # fmt: skip
            assert grid.column("llc")[n, 1, j] == alone.llc


def test_diverged_cells_are_there_to_see(grid):
    # Stable iff εa < 4, a = nβh + γ with h = 1: only nβ = 1000 at ε = 5e-3 is not.
    kinds = np.array([cell.kind for cell in grid.cells]).reshape(2, 3, 2)
    assert (kinds[1, 2] == "diverged").all()
    assert (kinds[0] != "diverged").all()
    assert (kinds[1, :2] != "diverged").all()
    lost = grid.cell(1, 2, 0)
    assert math.isnan(lost.llc)
    assert (lost.diverged, lost.reasons) == (2, ("ALL_DIVERGED",))
    assert "all 2 chains diverged" in str(grid)
    assert grid.counts["diverged"] == 2


def test_negative_cells_are_there_to_see():
    away = quadratic(H, [0.1, 0.0])
    found = llc.sweep(away, [1e-3], [1.0, 10.0], [1e3], **SHORT)
    assert [cell.kind for cell in found.cells] == ["negative"] * 2
    assert (found.column("llc") < 0).all()
    figure = llc.plot.sweep(found)
    assert len(figure.axes) == 1  # no cell has a colour, so there is no scale to explain
    assert "−" in figure.axes[0].texts[0].get_text()


def test_without_axes_the_grid_is_half_decades_around_what_is_chosen():
    task = llc.Task(linear(), real_valued(), "mse")
    wanted = llc.Settings(gamma=10.0, step_size=1e-3, chains=2, draws=5, burn_in=2)
    found = llc.sweep(task, settings=wanted, execution=OFF)
    assert np.allclose(np.diff(np.log10(found.step_sizes)), 0.5)
    assert np.allclose(np.diff(np.log10(found.gammas)), 0.5)
    assert np.allclose(found.n_betas, 40 / math.log(40) * np.array([10**-0.5, 1, 10**0.5]))
    assert (len(found.step_sizes), len(found.gammas), len(found.cells)) == (5, 5, 75)
    chosen = [cell for cell in found.cells if found.is_chosen(cell)]
    assert [(cell.step_size, cell.gamma) for cell in chosen] == [(1e-3, 10.0)]
    assert found.settings.sampler == "sgld"


def test_cells_end_with_their_budget(task):
    found = llc.sweep(task, [1e-6], [1.0], [300.0], chains=2, cell_budget=400)
    cell = found.cells[0]
    assert cell.gradient_evaluations < 600  # and the audit's
    assert "PRECISION_NOT_REACHED" in cell.reasons


def test_an_interrupted_sweep_goes_on_where_it_stopped(task, tmp_path):
    class Stop(Exception):
        pass

    def stop(_cell, done, _total):
        if done == 5:
            raise Stop

    whole = llc.sweep(task, **GRID, **SHORT)
    with pytest.raises(Stop):
        llc.sweep(task, **GRID, **SHORT, out=tmp_path, progress=stop)
    files = sorted((tmp_path / "cells").iterdir())
    assert len(files) == 5
    files[0].write_text("{")  # as if the disk had been full
    again = llc.sweep(task, **GRID, **SHORT, out=tmp_path)
    assert again.reused == 4
    assert str(again) == str(whole)
    # Other settings, data or weights are other cells.
    assert llc.sweep(task, **GRID, **{**SHORT, "seed": 1}, out=tmp_path).reused == 0
    assert llc.sweep(task.at({"w": task.model.w.detach() + 1}), **GRID, **SHORT,
                     out=tmp_path).reused == 0  # fmt: skip


def test_what_was_chosen_is_not_chosen_twice(tmp_path, monkeypatch):
    from llc.sweeps import run

    task = llc.Task(linear(), real_valued(), "mse")
    settings = {"gamma": 100.0, "chains": 2, "draws": 5, "burn_in": 2}
    first = llc.sweep(task, None, [10.0], [10.0], out=tmp_path, **settings)
    monkeypatch.setattr(run, "freeze_task", lambda *_: pytest.fail("chosen again"))
    again = llc.sweep(task, None, [10.0], [10.0], out=tmp_path, **settings)
    assert again.reused == len(first.cells) == 5
    assert again.settings == first.settings


def test_a_sweep_is_kept_in_a_file(grid, tmp_path):
    again = llc.Sweep.load(grid.save(tmp_path / "sweep.json"))
    assert again.to_dict() == grid.to_dict()
    assert math.isnan(again.cell(1, 2, 0).llc)
    rows = grid.to_csv(tmp_path / "sweep.csv").read_text().splitlines()
    assert len(rows) == 1 + 12
    assert sum(row.endswith(",diverged,0") for row in rows) == 2
    assert sum(row.endswith(",1") for row in rows) == 1
    (tmp_path / "bad.json").write_text(json.dumps({"cells": []}))
    assert "bad.json" in refusal(lambda: llc.Sweep.load(tmp_path / "bad.json"))


def test_figure(grid):
    figure = llc.plot.sweep(grid)
    figure.draw_without_rendering()
    panels = figure.axes[:2]
    assert [ax.get_title() for ax in panels] == ["$n\\beta$ = 300", "$n\\beta$ = 1000"]
    assert [len(ax.texts) for ax in panels] == [6, 6]  # a number in every cell
    written = [text.get_text() for text in panels[1].texts]
    assert sum("diverged" in text for text in written) == 2
    assert sum(bool(patch.get_hatch()) for patch in panels[1].patches) == 2
    assert not any(patch.get_hatch() for patch in panels[0].patches)
    framed = [[p for p in ax.patches if not p.get_fill()] for ax in panels]
    assert [len(patches) for patches in framed] == [2, 0]  # the chosen cell, in black and white
    corner = framed[0][0].get_xy()
    assert (round(corner[0] + 0.5), round(corner[1] + 0.5)) == (0, 1)


def test_an_outlier_does_not_eat_the_colours(grid):
    from dataclasses import replace

    from llc.plot.sweep import _scale

    usual, _ = _scale(grid)
    cells = list(grid.cells)
    cells[0] = replace(cells[0], llc=1e6, status="fail")
    scale, beyond = _scale(replace(grid, cells=tuple(cells)))
    assert scale.vmax <= usual.vmax
    assert beyond in ("max", "both")
    figure = llc.plot.sweep(replace(grid, cells=tuple(cells)))
    first = figure.axes[0].patches[0]
    assert to_hex(first.get_facecolor()) == to_hex(colormaps["cividis"](1.0))


BAD = {
    "empty": ({"step_sizes": []}, ["step_sizes", "empty"]),
    "zero": ({"step_sizes": [0.0, 1e-3]}, ["step_sizes", "0.0", "above 0"]),
    "negative": ({"gammas": [-1.0]}, ["gamma", "-1.0", "above 0"]),
    "nan": ({"n_betas": [float("nan")]}, ["n_beta", "nan"]),
    "text": ({"gammas": ["1"]}, ["gamma", "'1'"]),
    "twice": ({"gammas": [1.0, 1]}, ["gammas", "twice"]),
    "budget": ({"cell_budget": 0}, ["cell_budget is 0"]),
    "budget of a half": ({"cell_budget": 2.5}, ["cell_budget is 2.5"]),
    "sampler": ({"sampler": "gibbs"}, ["gibbs"]),
}


@pytest.mark.parametrize(("given", "words"), BAD.values(), ids=BAD)
def test_refused(task, given, words):
    message = refusal(lambda: llc.sweep(task, **{**GRID, **SHORT, **given}))
    assert [word for word in words if word not in message] == []


def test_a_folder_that_is_a_file(task, tmp_path):
    (tmp_path / "x").write_text("")
    assert "folder" in refusal(lambda: llc.sweep(task, **GRID, **SHORT, out=tmp_path / "x"))


def test_unknown_column(grid):
    assert "llc" in refusal(lambda: grid.column("reasons"))
