"""``rlct export``: every format holds the run's numbers, and what cannot be is one sentence."""

import csv

import numpy as np
import pytest
from tiny import FAST, linear, real_valued, run

import llc
from llc import interop
from llc.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "toy"
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    llc.trace(task, run(3), out=place, **FAST)
    return place


@pytest.fixture(scope="module")
def trajectory(folder):
    return llc.Trajectory.load(folder)


def refused(code, capsys):
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("rlct: ")
    return err


def test_csv_is_a_row_a_checkpoint(folder, trajectory, tmp_path, capsys):
    target = tmp_path / "deep" / "a.csv"
    assert main(["export", str(folder), "--format", "csv", "--out", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    rows = list(csv.DictReader(target.read_text().splitlines()))
    np.testing.assert_allclose([float(row["llc"]) for row in rows], trajectory.llc, rtol=1e-7)


def test_zarr_lies_in_the_run_folder_unless_told_otherwise(folder, trajectory, capsys):
    assert main(["export", str(folder), "--format", "zarr"]) == 0
    path = folder / "export" / "draws.zarr"
    assert capsys.readouterr().out == f"{path}\n"
    tree = interop.open_zarr(path)
    for point in trajectory.points:
        found = interop.from_datatree(tree[f"step_{point.step:07d}"])
        np.testing.assert_array_equal(found.trace, point.estimate.trace)
    # The run is still a run.
    assert len(llc.Trajectory.load(folder).points) == 3


def test_devinterps_compute_llc_of_an_exported_run_is_our_llc(folder, trajectory, capsys):
    from devinterp.slt.llc import compute_llc

    assert main(["export", str(folder), "--format", "devinterp"]) == 0
    paths = capsys.readouterr().out.split()
    assert len(paths) == 3
    for path, point in zip(paths, trajectory.points, strict=True):
        draws = interop.TokenDraws.load(path)
        estimate = point.estimate
        found = compute_llc(draws.tree)
        assert float(found["llc_mean"]) == pytest.approx(estimate.llc, rel=1e-9)
        by_chain = found["llc_per_chain"].values
        np.testing.assert_allclose(by_chain, estimate.trace.mean(1), rtol=1e-9)
        assert (draws.llc, draws.baseline_se) == (pytest.approx(estimate.llc, rel=1e-9), 0)
        assert draws.mcse == pytest.approx(estimate.mcse, rel=1e-6)
        assert draws.estimate.to_dict() == estimate.to_dict()


def test_netcdf_is_one_file_or_says_what_to_install(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("llc.interop.stores.find_spec", lambda _: None)
    arguments = ["export", str(folder), "--format", "netcdf", "--out", str(tmp_path / "a.nc")]
    assert "llc-toolkit[arviz]" in refused(main(arguments), capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "parquet"], ["parquet", "netcdf", "zarr", "csv", "devinterp"]),
        ([], ["--format"]),
        (["--format", "csv", "--out", "."], ["folder", "csv is one file"]),
        (["--format", "netcdf", "--out", "."], ["folder", "netcdf is one file"]),
        (["--format", "zarr", "--out", "."], ["no Zarr folder"]),
        (["--format", "devinterp", "--out", "afile"], ["afile", "a file"]),
        (["--format", "csv", "--oot", "a"], ["--oot", "--out"]),
    ],
)
def test_what_cannot_be_is_one_sentence(folder, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("")
    err = refused(main(["export", str(folder), *arguments]), capsys)
    assert all(word in err for word in words), err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    err = refused(main(["export", str(tmp_path), "--format", "csv"]), capsys)
    assert "run.json" in err
