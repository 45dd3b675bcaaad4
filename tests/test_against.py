"""The chart of made checkpoints: points where they belong, null and refusals."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from tiny import FAST, linear, real_valued, refusal, run

import llc


@pytest.fixture(scope="module")
def result():
    numbers = [30.0, 10.0, 20.0]
    variants = [
        (step, weights, {"planted": n}) for (step, weights), n in zip(run(3), numbers, strict=True)
    ]
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    return llc.trace(task, variants, behavioural=True, **FAST)


def test_points_stand_at_their_number_in_rising_order(result):
    figure = llc.plot.against(result)
    assert isinstance(figure, Figure)
    ax, below = figure.axes
    line = ax.containers[0].lines[0]
    assert line.get_xdata().tolist() == [10, 20, 30]
    assert np.allclose(line.get_ydata(), result.llc[[1, 2, 0]])
    low, high = result.interval(0.9)
    ends = np.array([segment[:, 1] for segment in ax.containers[0].lines[2][0].get_segments()])
    assert np.allclose(ends, np.stack([low, high], 1)[[1, 2, 0]])
    assert below.get_xlabel() == "planted exceptions k"
    ratio = below.lines[0]
    assert ratio.get_xdata().tolist() == [10, 20, 30]
    assert np.allclose(ratio.get_ydata(), result.llc[[1, 2, 0]] / result.column("null")[[1, 2, 0]])
    figure.draw_without_rendering()


def test_any_column_and_given_axes(result):
    ax = Figure().subplots()
    assert llc.plot.against(result, ax, x="weight_norm") is ax
    assert ax.get_xlabel() == "weight norm"
    assert llc.plot.against(result, x="step").axes[1].get_xlabel() == "training step"
    message = refusal(lambda: llc.plot.against(result, x="mixing_weight"))
    assert "planted" in message
    assert "weight_norm" in message
