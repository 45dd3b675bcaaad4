"""One γ for a run: chosen at its last checkpoint, tried at others, and no pilot run twice."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import refusal, regular

import llc
from llc.cli import drawing
from llc.cli.drawing import Drawing
from llc.cli.trace import _steep
from llc.estimator import estimate_task
from llc.trajectory import work
from llc.trajectory.agreement import agree, picks
from llc.trajectory.sources import Item, coarse_to_fine


@pytest.fixture(scope="module")
def line():
    return regular()


def scaled(line, *factors):
    """Checkpoints at multiples of the minimum: at 1 it is one."""
    weight = line.model.weight.detach()
    return [(10 * i, {"weight": factor * weight}) for i, factor in enumerate(factors, 1)]


def by(line, pairs, **given):
    items = [Item(step, weights=weights) for step, weights in pairs]
    return agree(line, items, llc.Settings(**given), None, None)


def test_the_gamma_of_the_last_checkpoint_serves_where_pilots_say_so(line):
    settings, trials = by(line, scaled(line, 0.5, 0.7, 0.9, 1), behavioural=True)
    alone = llc.calibrate(line, behavioural=True)
    assert settings.gamma == pytest.approx(alone.gamma, rel=1e-5)
    assert settings.gamma == float(f"{settings.gamma:.6g}")
    assert [trial.item.step for trial in trials] == [40, 30, 10]
    assert "chosen at step 40" in settings.reasons["gamma"]
    assert "it serves at 10 and 30" in settings.reasons["gamma"]


def test_gamma_is_raised_for_a_checkpoint_that_needs_it(line):
    # Slightly off the minimum: none at the radius of the last one's γ, one at a smaller radius.
    pairs = scaled(line, 0.965, 1)
    last = llc.calibrate(line)
    first = llc.calibrate(line.at(pairs[0][1]))
    assert first.gamma > 5 * last.gamma
    settings, trials = by(line, pairs)
    assert settings.gamma == pytest.approx(first.gamma, rel=1e-5)
    assert [trial.item.step for trial in trials] == [10]
    assert "chosen at step 10" in settings.reasons["gamma"]


def test_no_pilot_goes_below_what_others_have_agreed_on(line, monkeypatch):
    tried = []
    pilot_at = llc.calibration.choices.pilot_at
    monkeypatch.setattr(
        llc.calibration.choices,
        "pilot_at",
        lambda *given, **named: tried.append(given[2]) or pilot_at(*given, **named),
    )
    by(line, scaled(line, 3, 1))
    last = llc.calibrate(line).gamma
    own = tried[tried.index(max(tried)) :]
    assert min(own) > 0.99 * last


def test_pilots_become_the_estimates_of_their_checkpoints(line, tmp_path, monkeypatch):
    done = []

    def counted(task, settings, **given):
        done.append(task.model.weight[0, 0].item())
        return estimate_task(task, settings, **given)

    monkeypatch.setattr(work, "estimate_task", counted)
    pairs = scaled(line, 0.5, 0.6, 0.7, 0.8, 1)
    run = llc.trace(line, pairs, out=tmp_path, behavioural=True)
    assert done == pytest.approx([0.6, 0.8])
    for (_, weights), point in zip(pairs, run.points, strict=True):
        anew = estimate_task(line.at(weights), run.settings)
        assert anew.llc == point.estimate.llc
        assert anew.gradient_evaluations == point.estimate.gradient_evaluations
        np.testing.assert_array_equal(anew.trace, point.estimate.trace)
    # In the folder all are alike, so that it goes on from there.
    done.clear()
    again = llc.trace(line, pairs, out=tmp_path, behavioural=True)
    assert done == []
    assert again.llc.tolist() == run.llc.tolist()
    elsewhere = llc.trace(line, pairs, behavioural=True)
    assert elsewhere.llc.tolist() == run.llc.tolist()
    assert [p.metadata for p in elsewhere.points] == [p.metadata for p in run.points]
    assert run.points[0].metadata


def test_killed_before_settings_are_written_it_chooses_the_same_again(line, tmp_path, monkeypatch):
    pairs = scaled(line, 0.5, 0.8, 1)
    whole = llc.trace(line, pairs, out=tmp_path / "whole", behavioural=True)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("llc.trajectory.record.make_record", killed)
        with pytest.raises(KeyboardInterrupt):
            llc.trace(line, pairs, out=tmp_path / "cut", behavioural=True)
    kept = {path.name for path in (tmp_path / "cut" / "estimates").glob("*.json")}
    assert kept == {"0000010.json", "0000020.json", "0000030.json"}
    after = llc.trace(line, pairs, out=tmp_path / "cut", behavioural=True)
    assert after.llc.tolist() == whole.llc.tolist()
    assert after.settings == whole.settings


def test_where_no_checkpoint_can_be_used_the_first_problem_is_told(line):
    bad = {"weight": torch.full((1, 3), torch.nan)}
    assert "no checkpoint could be estimated; step 3" in refusal(
        lambda: by(line, [(1, bad), (2, bad), (3, bad)])
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12, 31])
def test_the_order_is_coarse_to_fine_and_leaves_nothing_out(count):
    items = [Item(step) for step in range(count)]
    order = [item.step for item in coarse_to_fine(items)]
    assert sorted(order) == list(range(count))
    assert order[:2] == [0, count - 1][: len(order)]
    for done in range(2, count + 1):
        gaps = np.diff(sorted(order[:done]))
        assert gaps.max() <= 2 * (gaps.min() + 1)
    assert set(picks(count)) == set(range(count)) & {0, count - 1, round((count - 1) / 2)}


def test_a_figure_is_there_before_the_run_is_over(line, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawing, "EVERY", 0.0)
    monkeypatch.setattr(drawing, "SHARE", np.inf)
    seen, said, save = [], [], drawing.plot.save

    def saved(figure, path):
        said.append([text.get_text() for text in figure.texts])
        return save(figure, path)

    monkeypatch.setattr(drawing.plot, "save", saved)

    class Seen(Drawing):
        def __call__(self, step, estimate, *, fresh=True):
            super().__call__(step, estimate, fresh=fresh)
            caption = tmp_path / "figures" / "trajectory.caption.txt"
            seen.append(caption.read_text() if caption.is_file() else None)

    pairs = scaled(line, 0.5, 0.6, 0.7, 0.8, 1)
    llc.trace(line, pairs, out=tmp_path, gamma=10.0, behavioural=True, draws=20, burn_in=20,
              progress=Seen(tmp_path))  # fmt: skip
    assert seen[:2] == [None, None]
    assert seen[2] != seen[3]
    assert [text[-1] for text in said] == [f"{n} of 5 checkpoints so far" for n in (3, 4)]
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == [10, 20, 30, 40, 50]
    assert f"figure so far: {tmp_path / 'figures' / 'trajectory.png'}" in capsys.readouterr().err


@pytest.mark.parametrize(("slope", "said"), [(-0.5, "by 50% (median)"), (-0.1, None)])
def test_a_trace_says_how_steep_in_gamma_its_numbers_are(line, slope, said):
    given = {"gamma": 10.0, "draws": 20, "burn_in": 20, "behavioural": True}
    run = llc.trace(line, scaled(line, 0.5, 1), **given)
    points = [
        replace(
            p, estimate=replace(p.estimate, llc=2.0, slope_gamma=2 * slope, slope_gamma_se=0.01)
        )
        for p in run.points
    ]
    lines = _steep(replace(run, points=tuple(points)))
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]
