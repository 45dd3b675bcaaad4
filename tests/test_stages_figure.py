"""The stage figure: what is shaded is what was found."""

import numpy as np
import pytest
from tiny import FAST, linear, real_valued, refusal, run

import llc
from llc.transitions import Transitions


@pytest.fixture(scope="module")
def result():
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    return llc.trace(task, run(7), behavioural=True, **FAST)


def test_stages_slope_and_losses_stand_where_they_belong(result):
    found = llc.find_transitions(result, resamples=20)
    figure = llc.plot.stages(result, found, losses=("train_loss", "weight_norm"))
    losses, curve, slope = figure.axes
    assert [line.get_label() for line in losses.lines] == ["train loss", "weight norm"]
    assert np.allclose(losses.lines[0].get_ydata(), result.column("train_loss"))
    assert np.allclose(curve.containers[0].lines[0].get_ydata(), result.llc)
    assert np.allclose(slope.lines[0].get_ydata(), found.curve["slope"])
    spans = [patch.get_extents().transformed(slope.transData.inverted()) for patch in slope.patches]
    assert len(spans) == len(found.stages) > 0
    for span, stage in zip(spans, found.stages, strict=True):
        assert (span.x0, span.x1) == pytest.approx((stage.start, stage.end))
    assert found.headline in figure.get_label()
    figure.draw_without_rendering()


def test_what_cannot_be_drawn_is_said(result):
    found = llc.find_transitions(result, resamples=20)
    assert "'nothing'" in refusal(lambda: llc.plot.stages(result, found, losses=["nothing"]))
    empty = Transitions([], name="bare", verdict="constant", evidence={})
    assert "bare" in refusal(lambda: llc.plot.stages(result, empty))
