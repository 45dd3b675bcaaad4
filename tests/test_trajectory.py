"""Tracing a run: reuse, interruption, checkpoints that cannot be used, figures."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import FAST, linear, real_valued, refusal, run

import llc
from llc import InputError
from llc.checkpoints import Checkpoint, find_checkpoints, save_checkpoint


def mean_square(outputs, targets):
    return ((outputs - targets) ** 2).mean(1)


def task(loss="mse", seed=0):
    return llc.Task(linear(), real_valued(seed=seed), loss, name="toy")


def trace(checkpoints=None, out=None, used=None, **given):
    checkpoints = run() if checkpoints is None else checkpoints
    return llc.trace(used or task(), checkpoints, out=out, **{**FAST, **given})


def ages(folder):
    """Step → when its estimate was written."""
    found = Path(folder, "estimates").glob("*.json")
    return {int(path.stem): path.stat().st_mtime_ns for path in found}


def contents(folder):
    """Path → (bytes, time of writing) of every file below, but for the lock."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def with_nan(pairs, position):
    step, weights = pairs[position]
    pairs[position] = step, {**weights, "bias": torch.full((2,), torch.nan)}
    return pairs


def test_one_estimate_a_checkpoint_by_step(tmp_path):
    pairs = run()
    result = trace(pairs[::-1], tmp_path)
    assert result.steps.tolist() == [10, 20, 30, 40]
    assert result.skipped == {}
    assert np.isfinite(result.llc).all()
    # The same as estimating each checkpoint by itself.
    alone = llc.estimate(task().at(pairs[1][1]), **FAST)
    assert (result.points[1].estimate.llc, result.mcse[1]) == (alone.llc, alone.mcse)
    low, high = result.interval(0.9)
    assert ((low < result.llc) & (result.llc < high)).all()
    assert math.isnan(result.column("test_loss")[0])
    assert result.column("distance")[1] == result.points[1].estimate.distance > 0
    for name in ("verdict", "settings", "trace", "chain_virials"):
        with pytest.raises(InputError, match=f"{name} of an estimate is no number"):
            result.column(name)
    assert "toy: 4 checkpoints" in str(result)


def test_a_column_of_two_by_one_name_is_the_estimates():
    result = trace()
    saved = [replace(p, metadata={"seconds": p.step, "llc": -1.0}) for p in result.points]
    both = replace(result, points=tuple(saved))
    assert both.column("saved_seconds").tolist() == [10, 20, 30, 40]
    assert both.column("saved_llc").tolist() == [-1.0] * 4
    for name in ("llc", "seconds"):
        assert both.column(name).tolist() == result.column(name).tolist()


def test_table_has_a_row_a_checkpoint(tmp_path):
    result = trace(out=tmp_path)
    header, *rows = (tmp_path / "trajectory.csv").read_text().splitlines()
    assert header.startswith("step,llc,mcse,virial,")
    assert header.endswith("verdict,reasons,train_loss,weight_norm")
    assert [int(row.split(",")[0]) for row in rows] == [10, 20, 30, 40]
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx(list(result.llc), rel=1e-6)
    copy = result.to_csv(tmp_path / "copy" / "again.csv")
    assert copy.read_bytes() == (tmp_path / "trajectory.csv").read_bytes()
    trace(out=tmp_path)  # from the kept estimates
    assert copy.read_bytes() == (tmp_path / "trajectory.csv").read_bytes()


def test_folder_and_checkpoint_objects_bring_their_metadata(tmp_path):
    saved = [save_checkpoint(tmp_path, s, w, {"train_loss": 1 / s}) for s, w in run()]
    by_folder = trace(str(tmp_path), tmp_path / "out")
    assert by_folder.metadata_names == ["train_loss", "weight_norm"]
    assert by_folder.column("train_loss").tolist() == [1 / s for s, _ in run()]
    header = (tmp_path / "out" / "trajectory.csv").read_text().splitlines()[0]
    assert header.endswith("train_loss,weight_norm")
    for source in (saved, find_checkpoints(tmp_path)):
        assert trace(source).llc.tolist() == by_folder.llc.tolist()
    assert isinstance(saved[0], Checkpoint)


def test_second_trace_reuses_everything(tmp_path):
    first = trace(out=tmp_path)
    before, seen = ages(tmp_path), []
    second = trace(out=tmp_path, progress=lambda step, estimate: seen.append((step, estimate.llc)))
    assert ages(tmp_path) == before
    assert sorted(seen) == list(zip([10, 20, 30, 40], first.llc, strict=True))
    assert second.llc.tolist() == first.llc.tolist()
    assert [p.estimate.verdict for p in second.points] == [p.estimate.verdict for p in first.points]


def test_folder_of_another_trace_is_refused_and_says_why(tmp_path):
    def other_loss(outputs, targets):
        return ((outputs - targets) ** 2).mean(1) * 2

    # Looks the same to whoever compares names.
    other_loss.__name__, other_loss.__qualname__ = mean_square.__name__, mean_square.__qualname__
    wide = llc.Task(torch.nn.Linear(3, 2, bias=False), real_valued(), mean_square)
    usual = {"checkpoints": run(1), "out": tmp_path, "used": task(mean_square), "draws": 20}
    trace(**usual)
    before = contents(tmp_path)
    for change, words in [
        ({"gamma": 11.0}, "gamma 10 (now 11)"),
        ({"gamma": None}, "gamma 10 (now left open)"),
        ({"n_beta": 30.0, "seed": 1}, "seed 0 (now 1)"),
        ({"draws": 21, "behavioural": True}, "draws 20 (now 21), behavioural False (now True)"),
        ({"used": task(mean_square, seed=1)}, "other data"),
        ({"used": task(other_loss)}, "another loss"),
        ({"used": task("mse")}, "another loss"),
        ({"used": wide}, "another model"),
    ]:
        message = refusal(lambda change=change: trace(**{**usual, **change}))
        assert words in message, message
        assert str(tmp_path) in message
        assert contents(tmp_path) == before, change
    # What was chosen then may be given now.
    trace(**{**usual, "n_beta": 40 / math.log(40), "sampler": "kinetic"})
    assert ages(tmp_path) == {10: before["estimates/0000010.json"][1]}


def test_other_weights_of_one_checkpoint_concern_it_alone(tmp_path):
    trace(out=tmp_path)
    before, pairs = ages(tmp_path), run()
    pairs[2][1]["bias"] += 1e-6
    trace(pairs, tmp_path)
    changed = {step for step, age in ages(tmp_path).items() if age != before[step]}
    assert changed == {30}


DAMAGE = {
    "lost": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "other": lambda path: path.write_bytes(b"{}"),
}


@pytest.mark.parametrize("ending", [".json", ".npz", ".fingerprint"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_estimate_is_computed_again(tmp_path, ending, damage):
    trace(run(1), tmp_path, draws=20)
    table = (tmp_path / "trajectory.csv").read_bytes()
    damage((tmp_path / "estimates" / "0000010").with_suffix(ending))
    trace(run(1), tmp_path, draws=20)
    assert (tmp_path / "trajectory.csv").read_bytes() == table
    assert len(list((tmp_path / "estimates").iterdir())) == 3
    assert llc.Estimate.load(tmp_path / "estimates" / "0000010").trace.shape == (2, 20)


def test_interrupted_trace_goes_on_to_the_same_numbers(tmp_path):
    trace(out=tmp_path / "whole")
    seen = []

    def interrupt(step, _):
        seen.append(step)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trace(out=tmp_path / "cut", progress=interrupt)
    before = ages(tmp_path / "cut")
    assert sorted(before) == seen == [10, 40]
    trace(out=tmp_path / "cut")
    after = ages(tmp_path / "cut")
    assert {step: after[step] for step in before} == before
    tables = [(tmp_path / name / "trajectory.csv").read_bytes() for name in ("whole", "cut")]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("gamma", [10.0, None])
@pytest.mark.parametrize("position", [0, 2, 3])
def test_diverged_checkpoint_is_skipped(tmp_path, position, gamma):
    told = []
    result = trace(
        with_nan(run(), position), tmp_path, gamma=gamma, budget=600,
        progress=lambda *pair: told.append(pair),
    )  # fmt: skip
    step = 10 * (position + 1)
    assert list(result.skipped) == [step]
    assert "nan" in result.skipped[step]
    assert result.steps.tolist() == [s for s in (10, 20, 30, 40) if s != step]
    assert (step, None) in told
    if gamma is not None:
        kept = [llc for s, llc in zip((10, 20, 30, 40), trace().llc, strict=True) if s != step]
        assert result.llc.tolist() == kept


def test_nothing_to_estimate(tmp_path):
    pairs = run()
    for position in range(len(pairs)):
        with_nan(pairs, position)
    assert "nan" in refusal(lambda: trace(pairs, tmp_path))
    assert "at least one" in refusal(lambda: trace([]))
    assert "step 10 twice" in refusal(lambda: trace([*run(), run()[0]]))
    assert "2 missing" in refusal(lambda: trace([(1, {})]))


def test_unknown_setting():
    # As of any function: what is no parameter is a TypeError that names it.
    with pytest.raises(TypeError, match="gama"):
        trace(gama=1.0)


def test_executor_gives_the_same_numbers(tmp_path):
    here = trace(out=tmp_path / "here")
    with ThreadPoolExecutor(2) as pool:
        there = trace(out=tmp_path / "there", executor=pool)
    assert there.llc.tolist() == here.llc.tolist()
    tables = [(tmp_path / name / "trajectory.csv").read_bytes() for name in ("here", "there")]
    assert tables[0] == tables[1]


def test_one_gamma_for_all_and_the_same_when_resumed(tmp_path):
    first = trace(out=tmp_path, gamma=None, budget=600)
    gammas = {point.estimate.settings.gamma for point in first.points}
    assert gammas == {first.settings.gamma}
    assert "chosen at step 40" in first.settings.reasons["gamma"]
    before = ages(tmp_path)
    assert trace(out=tmp_path, gamma=None, budget=600).settings == first.settings
    assert ages(tmp_path) == before


def test_estimate_comes_back_whole(tmp_path):
    # One chain: R-hat is nan, which JSON has no word for.
    kept = llc.estimate(task(), **{**FAST, "chains": 1})
    assert math.isnan(kept.rhat)
    path = kept.save(tmp_path / "deep" / "one.json")
    loaded = llc.Estimate.load(path)
    assert loaded.to_dict() == kept.to_dict()
    assert math.isnan(loaded.rhat)
    assert (loaded.verdict, loaded.settings) == (kept.verdict, kept.settings)
    assert str(loaded) == str(kept)
    assert loaded.trace.shape == (1, 60)
    for name in ("trace", "burn_in_trace", "virial_trace"):
        assert np.array_equal(getattr(loaded, name), getattr(kept, name))
    assert (loaded.chain_virials, loaded.diverged) == (kept.chain_virials, kept.diverged)


def test_no_estimate_to_load(tmp_path):
    assert "no.json" in refusal(lambda: llc.Estimate.load(tmp_path / "no.json"))
    for text in ("hello", "{}", "[]", '{"verdict": {}, "settings": {}}'):
        (tmp_path / "bad.json").write_text(text)
        np.savez(tmp_path / "bad.npz", trace=np.zeros(1), virial_trace=np.zeros(1))
        assert "bad.json" in refusal(lambda: llc.Estimate.load(tmp_path / "bad.json"))


def test_loaded_trajectory_is_the_traced_one(tmp_path):
    saved = [save_checkpoint(tmp_path / "in", s, w, {"train_loss": 1 / s}) for s, w in run()]
    traced = trace(with_nan([(c.step, c.weights()) for c in saved], 1), tmp_path / "mixed")
    again = llc.Trajectory.load(tmp_path / "mixed")
    assert (again.name, again.settings, again.steps.tolist()) == (
        "toy",
        traced.settings,
        [10, 30, 40],
    )
    assert again.skipped == traced.skipped
    traced = trace(saved, tmp_path / "good")
    again = llc.Trajectory.load(str(tmp_path / "good"))
    assert again.skipped == {}
    assert again.column("train_loss").tolist() == [1 / s for s, _ in run()]
    for one, other in zip(again.points, traced.points, strict=True):
        assert one.estimate.to_dict() == other.estimate.to_dict()
        assert np.array_equal(one.estimate.trace, other.estimate.trace)
    assert str(again) == str(traced)
    copy = again.to_csv(tmp_path / "copy.csv")
    assert copy.read_bytes() == (tmp_path / "good" / "trajectory.csv").read_bytes()


def test_no_trajectory_to_load(tmp_path):
    assert "no folder" in refusal(lambda: llc.Trajectory.load(tmp_path / "none"))
    assert "no run.json" in refusal(lambda: llc.Trajectory.load(tmp_path))
    (tmp_path / "run.json").write_text("{}")
    assert "rlct trace" in refusal(lambda: llc.Trajectory.load(tmp_path))
    trace(run(2), tmp_path / "run")
    (tmp_path / "run" / "estimates" / "0000010.npz").write_bytes(b"")
    assert "step 10" in refusal(lambda: llc.Trajectory.load(tmp_path / "run"))
    for path in (tmp_path / "run" / "estimates").iterdir():
        path.unlink()
    assert "no finished estimate" in refusal(lambda: llc.Trajectory.load(tmp_path / "run"))
