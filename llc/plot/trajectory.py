"""Effective dimensionality over training: the LLC under the learning curves."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.plot.figures import COLOURS, STYLE

if TYPE_CHECKING:
    from llc.trajectory import Trajectory

__all__ = ["trajectory"]

MEMORISED = 0.99


def trajectory(result: "Trajectory", ax: Any = None, *, control: "Trajectory | None" = None) -> Any:
    """Chart a trajectory: learning curves above, LLC with its 90 % band and null below.

    Curves come from the checkpoints' metadata (``train_loss``, ``test_loss``,
    ``train_accuracy``, ``test_accuracy``); without any of them the upper panel is left out.

    Args:
        result: what `llc.trace` returned.
        ax: axes for the LLC panel alone; None makes a figure of its own.
        control: a second run to hold it against: one that should show no change.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if ax is not None:
        _draw_llc(ax, result, control)
        return ax
    curves = any(name in result.metadata_names for name in ("train_loss", "test_loss"))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 5.2 if curves else 3.4), layout="constrained")
        if curves:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.35])
            _draw_curves(upper, result)
            _mark_stages((upper, lower), result)
        else:
            lower = figure.subplots()
        _draw_llc(lower, result, control)
        figure.suptitle(_caption(result), fontsize=6.5, color=COLOURS["muted"])
    return figure


def _draw_llc(ax: Any, result: "Trajectory", control: "Trajectory | None") -> None:
    _run(ax, result, COLOURS["main"], "o", "")
    if control is not None:
        _run(ax, control, COLOURS["second"], "s", " (control)")
    steps = result.steps
    doubtful = np.array([p.estimate.verdict.status == "fail" for p in result.points])
    if doubtful.any():
        ax.plot(
            steps[doubtful], result.llc[doubtful], "x", color="black", ms=5,
            label="verdict: fail",
        )  # fmt: skip
    if (steps > 0).all():
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=steps[steps > 0].min() if (steps > 0).any() else 1.0)
    if (result.llc[np.isfinite(result.llc)] > 0).all():
        ax.set_yscale("log")
        _plain_ticks(ax.yaxis)
    ax.set_xlabel("training step")
    ax.set_ylabel("local learning coefficient")
    # Below the axis: over a whole run the curves cross every corner of the panel.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _run(ax: Any, result: "Trajectory", colour: str, marker: str, role: str) -> None:
    """Draw one run's LLC with its band, and its prior-only null."""
    low, high = result.interval(0.9)
    ax.fill_between(result.steps, low, high, color=colour, alpha=0.3, lw=0)
    label = f"LLC, {result.name}{role}"
    ax.plot(result.steps, result.llc, marker=marker, ms=2.2, color=colour, label=label)
    null = result.column("null")
    ax.plot(
        result.steps, null, "--", color=colour, alpha=0.6, lw=0.8, label=f"prior-only null{role}"
    )


def _draw_curves(ax: Any, result: "Trajectory") -> None:
    for part, colour in (("train", COLOURS["main"]), ("test", COLOURS["second"])):
        loss = result.column(f"{part}_loss")
        if np.isfinite(loss).any():
            ax.plot(result.steps, loss, color=colour, label=f"{part} loss")
    ax.set_yscale("log")
    ax.set_ylabel("loss (nats)" if _has_accuracy(result) else "loss")
    handles, labels = ax.get_legend_handles_labels()
    if _has_accuracy(result):
        right = ax.twinx()
        right.spines["right"].set_visible(True)
        for part, colour in (("train", COLOURS["main"]), ("test", COLOURS["second"])):
            accuracy = result.column(f"{part}_accuracy")
            right.plot(result.steps, accuracy, ":", color=colour, label=f"{part} accuracy")
        right.set_ylim(-0.03, 1.03)
        right.set_ylabel("accuracy (dotted)")
        more, names = right.get_legend_handles_labels()
        handles, labels = handles + more, labels + names
    ax.legend(handles, labels, loc="center left", bbox_to_anchor=(0.0, 0.45))


def _has_accuracy(result: "Trajectory") -> bool:
    return "test_accuracy" in result.metadata_names


def _mark_stages(axes: tuple[Any, ...], result: "Trajectory") -> None:
    """Thin lines where training and held-out accuracy first reach 99 %."""
    for part in ("train", "test"):
        step = _first_above(result.steps, result.column(f"{part}_accuracy"), MEMORISED)
        if step is not None:
            for ax in axes:
                ax.axvline(step, color=COLOURS["muted"], lw=0.5, zorder=0)
            axes[0].annotate(
                f"{part} accuracy 99 %", (step, 1.0), xycoords=("data", "axes fraction"),
                xytext=(-2, 1), textcoords="offset points", ha="right", va="bottom",
                fontsize=6, color=COLOURS["muted"],
            )  # fmt: skip


def _first_above(steps: Array, values: Array, level: float) -> float | None:
    reached = np.flatnonzero(values >= level)
    return float(steps[reached[0]]) if len(reached) else None


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _caption(result: "Trajectory") -> str:
    s = result.settings
    loss = ", behavioural loss" if s.behavioural else ""
    return (
        f"$n\\beta$ = {s.n_beta:.4g}, $\\gamma$ = {s.gamma:.3g}, {s.sampler} sampler, "
        f"{s.chains} chains{loss}; 90 % Monte-Carlo bands\n"
        "(hidden where narrower than the line)"
    )
