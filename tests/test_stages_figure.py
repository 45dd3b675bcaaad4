"""The stage figure: what is shaded is what was found."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import FAST, linear, real_valued, refusal, run

import llc
from llc.trajectory import Point
from llc.transitions import find_stages
from llc.transitions.stages import cut


@pytest.fixture(scope="module")
def result():
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    return llc.trace(task, run(7), behavioural=True, **FAST)


def test_stages_slope_and_losses_stand_where_they_belong(result):
    found, jumps = find_stages(result), llc.find_transitions(result, resamples=20)
    names = ("train_loss", "weight_norm")
    figure = llc.plot.stages(result, found, transitions=jumps, losses=names)
    losses, curve, slope = figure.axes
    assert [line.get_label() for line in losses.lines] == ["train loss", "weight norm"]
    assert np.allclose(losses.lines[0].get_ydata(), result.column("train_loss"))
    assert np.allclose(curve.containers[0].lines[0].get_ydata(), result.llc)
    assert np.allclose(slope.lines[0].get_ydata(), found.curve["slope"])
    spans = [patch.get_extents().transformed(slope.transData.inverted()) for patch in slope.patches]
    assert len(spans) == len(found.stages) > 0
    for span, stage in zip(spans, found.stages, strict=True):
        assert (span.x0, span.x1) == pytest.approx((stage.start, stage.end))
    figure.draw_without_rendering()


def of_known_llc(steps, values, error):
    """A trajectory with given numbers; nothing else of its estimates is looked at."""
    points = [
        Point(int(t), SimpleNamespace(llc=v, mcse=error))
        for t, v in zip(steps, values, strict=True)
    ]
    return llc.Trajectory("known", llc.Settings(), tuple(points))


def test_stages_of_a_known_curve():
    # Flat, then a slope of 5 an e-fold, then flat, then down at 5: in ln step, corners at 100, 1000
    # and 3000.
    steps = np.unique(np.geomspace(10, 10_000, 60).round())
    x = np.log(steps)
    rise = 5 * np.clip(x - np.log(100), 0, np.log(10))
    values = 10 + rise - 5 * np.clip(x - np.log(3000), 0, None)
    noise = 0.05 * np.random.default_rng(0).normal(size=len(x))
    found = find_stages(of_known_llc(steps, values + noise, 0.05))
    slopes = dict(zip(found.curve["step"], found.curve["slope"], strict=True))
    errors = dict(zip(found.curve["step"], found.curve["slope_sd"], strict=True))
    for step in (steps[5], steps[30], steps[-5]):
        true = 5 * (100 < step < 1000) - 5 * (step > 3000)
        assert abs(slopes[step] - true) < 4 * errors[step] + 0.2
    rising = [stage for stage in found.stages if stage.direction == "rising"]
    assert 70 < min(s.start for s in rising) < 140
    assert 800 < max(s.end for s in rising if s.end > 1.5 * s.start) < 1500
    falling = [stage for stage in found.stages if stage.direction == "falling"]
    assert 2400 < max(s.start for s in falling) < 4200
    assert falling[-1].end == 10_000


def test_a_slow_decline_that_no_slope_shows_is_not_called_flat():
    # A network's own numbers: up within three checkpoints, then down by a third over seven.
    steps = [10, 20, 40, 70, 110, 160, 230, 320, 450, 650, 900]
    values = [3.17, 13.7, 49.9, 58.8, 59.2, 53.6, 50.4, 45.8, 44.1, 39.8, 38.3]
    found = find_stages(of_known_llc(steps, values, 0.6))
    assert found.stages[-1].direction == "falling"
    assert found.stages[-1].start <= 160
    # Where nothing but noise moves, it still is.
    still = 38 + 0.6 * np.random.default_rng(1).normal(size=len(steps))
    assert {s.direction for s in find_stages(of_known_llc(steps, still, 0.6)).stages} == {"flat"}


def test_no_stage_begins_where_the_run_ends():
    steps = np.geomspace(10, 1000, 5)
    slope = np.array([0.0, 5.0, 5.0, 5.0, 0.5])
    curve = SimpleNamespace(slope=slope, slope_sd=np.ones(5), mean=np.zeros(5), sd=np.ones(5))
    found = [(s.start, s.end, s.direction) for s in cut(steps, curve)]
    assert found == [(steps[0], steps[1], "flat"), (steps[1], steps[4], "rising")]


def test_what_cannot_be_drawn_or_cut_is_said(result):
    found = find_stages(result)
    assert "'nothing'" in refusal(lambda: llc.plot.stages(result, found, losses=["nothing"]))
    assert "5 checkpoints" in refusal(lambda: find_stages(of_known_llc(range(6), [1.0] * 6, 0.1)))
