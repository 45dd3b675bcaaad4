"""Estimates and runs as xarray trees: ArviZ's own numbers from them are ours, and back again."""

import dataclasses
import json

import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from tiny import FAST, linear, real_valued, refusal, run

import llc
from llc import interop


@pytest.fixture(scope="module")
def estimate():
    return llc.estimate(linear(), real_valued(), "mse", **FAST, behavioural=True)


@pytest.fixture(scope="module")
def broken(estimate):
    """The same with chain 0 said to have left for infinity."""
    trace = np.concatenate([np.full((1, 60), np.inf), estimate.trace])
    return dataclasses.replace(
        estimate,
        trace=trace,
        virial_trace=np.concatenate([np.full((1, 60), np.nan), estimate.virial_trace]),
        burn_in_trace=np.concatenate([estimate.burn_in_trace[:1], estimate.burn_in_trace]),
        settings=dataclasses.replace(estimate.settings, chains=3),
        diverged=(0,),
    )


@pytest.fixture(scope="module")
def trajectory():
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    steps = [(step, state, {"test_loss": step / 7}) for step, state in run(3)]
    return llc.trace(task, steps, **FAST)


def equal(one, other):
    """Equal in everything, traces and nan included."""
    assert one.to_dict() == other.to_dict()
    for name in ("trace", "virial_trace", "burn_in_trace"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_arvizs_numbers_of_the_posterior_are_those_of_the_estimate(estimate):
    posterior = estimate.to_datatree()["posterior"]["llc"]
    assert posterior.dims == ("chain", "draw")
    axes = {"chain_axis": 0, "draw_axis": 1}
    assert float(posterior.mean()) == pytest.approx(estimate.llc, rel=1e-12)
    found = array_stats.rhat(posterior.values, **axes, method="rank")
    assert found == pytest.approx(estimate.rhat, rel=1e-12)
    found = array_stats.ess(posterior.values, **axes, method="mean")
    assert found == pytest.approx(estimate.ess, rel=1e-12)
    virial = estimate.to_datatree()["sample_stats"]["virial"]
    assert float(virial.mean()) == pytest.approx(estimate.virial, rel=1e-12)


def test_chains_that_left_stand_apart_under_their_own_numbers(estimate, broken):
    tree = broken.to_datatree()
    assert tree["posterior"]["chain"].values.tolist() == [1, 2]
    assert tree["diverged"]["chain"].values.tolist() == [0]
    assert not np.isfinite(tree["diverged"]["llc"]).any()
    np.testing.assert_array_equal(tree["posterior"]["llc"].values, estimate.trace)
    assert "diverged" not in estimate.to_datatree().children
    equal(interop.from_datatree(tree), broken)


@pytest.mark.parametrize("which", ["estimate", "broken"])
def test_through_zarr_and_back_nothing_is_lost(which, request, tmp_path):
    given = request.getfixturevalue(which)
    path = interop.write_zarr(interop.to_datatree(given), tmp_path / "draws.zarr")
    equal(interop.from_datatree(interop.open_zarr(path)), given)
    assert [p.name for p in tmp_path.iterdir()] == ["draws.zarr"]


def test_through_netcdf_and_back_nothing_is_lost(trajectory, tmp_path):
    pytest.importorskip("h5netcdf")
    path = interop.write_netcdf(interop.to_datatree(trajectory), tmp_path / "run.nc")
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        for point in trajectory.points:
            equal(interop.from_datatree(tree[f"step_{point.step:07d}"]), point.estimate)
        np.testing.assert_array_equal(tree["llc"].values, trajectory.llc)


def test_without_h5netcdf_netcdf_says_what_to_install(estimate, tmp_path, monkeypatch):
    monkeypatch.setattr("llc.interop.stores.find_spec", lambda _: None)
    message = refusal(lambda: interop.write_netcdf(estimate.to_datatree(), tmp_path / "a.nc"))
    assert "h5netcdf" in message
    assert "zarr" in message
    assert not list(tmp_path.iterdir())


def test_a_run_has_a_row_a_checkpoint_and_a_tree_a_checkpoint(trajectory):
    tree = interop.to_datatree(trajectory)
    assert tree["step"].values.tolist() == [10, 20, 30]
    for name in ("llc", "mcse", "virial", "baseline"):
        np.testing.assert_array_equal(tree[name].values, trajectory.column(name))
    np.testing.assert_allclose(tree["test_loss"].values, np.array([10, 20, 30]) / 7)
    meanings = tree["verdict"].attrs["flag_meanings"].split()
    told = [meanings[code] for code in tree["verdict"].values]
    assert told == [point.estimate.verdict.status for point in trajectory.points]
    assert llc.Settings.from_dict(json.loads(tree.attrs["settings"])) == trajectory.settings
    equal(interop.from_datatree(tree["step_0000020"]), trajectory.points[1].estimate)


def test_an_older_store_is_replaced_and_nothing_else_is(estimate, tmp_path):
    tree = estimate.to_datatree()
    path = interop.write_zarr(tree, tmp_path / "a.zarr")
    (path / "stray").write_text("of the older one")
    interop.write_zarr(tree, path)
    assert not (path / "stray").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert "no Zarr folder" in refusal(lambda: interop.write_zarr(tree, mine))
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_a_store_whose_writing_fails_leaves_the_older_one(estimate, tmp_path, monkeypatch):
    tree = estimate.to_datatree()
    path = interop.write_zarr(tree, tmp_path / "a.zarr")
    monkeypatch.setattr(xr.DataTree, "to_zarr", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        interop.write_zarr(tree, path)
    equal(interop.from_datatree(interop.open_zarr(path)), estimate)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_foreign_trees_and_folders_are_refused(tmp_path):
    assert "to_datatree" in refusal(lambda: interop.from_datatree(xr.DataTree()))
    assert "no folder" in refusal(lambda: interop.open_zarr(tmp_path / "nowhere"))
    assert "cannot be read" in refusal(lambda: interop.open_zarr(tmp_path))
