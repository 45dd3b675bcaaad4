"""Figures of chains, portraits, comparisons and step sizes; captions and bytes."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from tiny import FAST, linear, real_valued, refusal, run

import llc
from llc.checkpoints import save_checkpoint

TASK = {"data": real_valued(), "loss": "mse"}


@pytest.fixture(scope="module")
def estimate():
    return llc.estimate(linear(), **TASK, **FAST)


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for step, weights in run():
        numbers = {"train_loss": 1 / step, "test_accuracy": step / 100, "n_eff": 4.0 + step}
        save_checkpoint(folder, step, weights, numbers)
    return llc.trace(llc.Task(linear(), **TASK, name="toy"), folder, **FAST)


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_traces_show_burn_in_and_draws(estimate):
    ax = llc.plot.traces(estimate).axes[0]
    chain = ax.get_lines()[0]
    assert chain.get_xdata()[0] == -FAST["burn_in"]
    everything = np.concatenate([estimate.burn_in_trace[0], estimate.trace[0]])
    np.testing.assert_array_equal(chain.get_ydata(), everything)
    mean = next(line for label, line in lines(ax).items() if label.startswith("running mean"))
    assert mean.get_ydata()[-1] == pytest.approx(estimate.llc)


def test_ranks_are_level_over_all_chains_together(estimate):
    ax = llc.plot.ranks(estimate).axes[0]
    bars = [patch.get_data().values for patch in ax.patches if hasattr(patch, "get_data")]
    assert len(bars) == FAST["chains"]
    np.testing.assert_allclose(np.mean(bars, 0), 1)
    # A chain far above the others has all its draws in the upper half of all ranks.
    apart = replace(estimate, trace=estimate.trace + np.array([[0.0], [1e6]]))
    low, high = (
        patch.get_data().values
        for patch in llc.plot.ranks(apart).axes[0].patches
        if hasattr(patch, "get_data")
    )
    half = len(low) // 2
    assert low[:half].tolist() == high[half:].tolist() == [2.0] * half
    assert not low[half:].any()
    assert not high[:half].any()


def test_autocorrelation_starts_at_one_and_is_that_of_the_draws(estimate):
    curve = llc.plot.autocorrelation(estimate).axes[0].get_lines()[0].get_ydata()
    x = estimate.trace[0] - estimate.trace[0].mean()
    assert curve[0] == pytest.approx(1)
    assert curve[1] == pytest.approx((x[1:] * x[:-1]).sum() / (x**2).sum())


def test_a_page_of_chains_even_where_all_diverged(estimate):
    assert len(llc.plot.chains(estimate).axes) == 3
    lost = llc.estimate(linear(), **TASK, **FAST, step_size=1e6)
    llc.plot.chains(lost).draw_without_rendering()


def test_portrait(trajectory):
    ax = llc.plot.portrait(trajectory, loss="train_loss").axes[0]
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), trajectory.column("train_loss"))
    assert llc.plot.portrait(trajectory).axes[0].get_xlabel() == "train loss"
    measured = llc.plot.portrait(trajectory, loss="baseline").axes[0]
    assert measured.get_xlabel() == "loss at the checkpoint"
    message = refusal(lambda: llc.plot.portrait(trajectory, loss="los"))
    assert "'los'" in message
    assert "train_loss" in message


def test_twice_the_llc_beside_n_eff(trajectory):
    ax = llc.plot.dimension(trajectory).axes[0]
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), 2 * trajectory.llc)
    np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), trajectory.column("n_eff"))
    assert "N_eff" in refusal(lambda: llc.plot.dimension(trajectory, n_eff="missing"))


def test_runs_over_one_another(trajectory):
    ax = llc.plot.runs([trajectory, trajectory], names=["first", "second"]).axes[0]
    assert list(lines(ax)) == ["first", "second"]
    assert "one each" in refusal(lambda: llc.plot.runs([trajectory], names=["a", "b"]))


def test_step_size_sensitivity():
    sweep = llc.sweep(
        llc.Task(linear(), **TASK, name="toy"), [1e-4, 1e-3], [10.0, 100.0], [5.0, 10.0],
        chains=2, draws=20, burn_in=10,
    )  # fmt: skip
    ax = llc.plot.step_size(sweep, n_beta=10.0).axes[0]
    chosen = [sweep.cell(1, i, 1) for i in range(2)]
    assert len(ax.containers) == 2
    line = ax.containers[1].lines[0]
    values = [c.llc if c.status != "fail" else np.nan for c in chosen]
    np.testing.assert_allclose(line.get_ydata(), values)
    assert "n_beta is 7" in refusal(lambda: llc.plot.step_size(sweep, n_beta=7.0))


def test_every_function_draws_on_given_axes(estimate, trajectory):
    for draw, result in (
        (llc.plot.traces, estimate), (llc.plot.ranks, estimate),
        (llc.plot.autocorrelation, estimate), (llc.plot.portrait, trajectory),
        (llc.plot.dimension, trajectory), (llc.plot.runs, [trajectory]),
        (llc.plot.trajectory, trajectory),
    ):  # fmt: skip
        ax = Figure().subplots()
        assert draw(result, ax) is ax
        ax.figure.draw_without_rendering()


def test_caption_and_settings_travel_with_the_file(trajectory, tmp_path):
    files = llc.plot.save(llc.plot.trajectory(trajectory), tmp_path / "a")
    caption = (tmp_path / "a.caption.txt").read_text()
    assert "toy" in caption
    assert "γ = 10, kinetic sampler, 2 chains, seed 0" in caption
    assert "2 chains, seed 0" in (tmp_path / "a.svg").read_text()
    assert b"iTXt" in (tmp_path / "a.png").read_bytes()  # text beyond Latin-1
    again = llc.plot.save(llc.plot.trajectory(trajectory), tmp_path / "b")
    for first, second in zip(files, again, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_learning_curves_are_whatever_is_called_so(trajectory):
    axes = llc.plot.trajectory(trajectory).axes
    assert [list(lines(ax)) for ax in axes if ax.get_ylabel() == "loss"] == [["train loss"]]
    assert any("accuracy" in ax.get_ylabel() for ax in axes)


def test_exact_values_are_drawn_as_stairs(trajectory):
    axes = llc.plot.trajectory(trajectory, exact={10: 1.0, 25: 2.5}).axes
    stairs = next(lines(ax)["exact λ"] for ax in axes if "exact λ" in lines(ax))
    assert list(stairs.get_xdata()) == [10, 25, 40]
    assert list(stairs.get_ydata()) == [1.0, 2.5, 2.5]
