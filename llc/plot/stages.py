"""Stages of a run: losses, LLC with its smooth curve, and the slope whose zeros part them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llc.errors import InputError
from llc.plot.figures import COLOURS, CYCLE, PAGE, sheet, step_axis
from llc.plot.trajectory import settings_line

if TYPE_CHECKING:
    from llc.trajectory import Trajectory
    from llc.transitions import Transitions

__all__ = ["stages"]

SHADES = {"rising": COLOURS["second"], "falling": COLOURS["main"], "flat": COLOURS["muted"]}


def stages(
    result: "Trajectory", found: "Transitions", *, losses: Sequence[str] = ("train_loss",)
) -> Any:
    """Chart losses, LLC and the LLC's slope over ln step, with the stages of its smooth curve.

    Stages meet where the slope dλ̂/d ln t vanishes (Hoogland et al. 2024, arXiv 2402.02364); here
    they carry an error: a stretch over which the slope is within two standard deviations of zero is
    a stage of its own, called flat. They are those of the smooth curve, whether or not jumps
    explain the run better; transitions, where there are any, are lines.

    Args:
        result: what `llc.trace` returned.
        found: what `llc.find_transitions` returned for it.
        losses: columns of metadata for the upper panel.

    Returns:
        The figure.

    Raises:
        InputError: no such column, or there is no smooth curve to draw.
    """
    for name in losses:
        if name not in result.metadata_names:
            known = ", ".join(result.metadata_names)
            raise InputError(f"{result.name} has no {name!r}, expected one of {known}")
    if not found.curve:
        raise InputError(
            f"transitions of {found.name} hold no smooth curve, expected those of a run"
        )
    caption = (
        f"{result.name}: losses, LLC with 90 % intervals and smooth curve, and its slope with two "
        "standard deviations; shaded where it rises, falls, or neither within two standard "
        f"deviations. {found.headline}. {settings_line(result)}."
    )
    with sheet(PAGE, 5.4, caption) as figure:
        axes = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1.3, 0.8])
        _draw_losses(axes[0], result, losses)
        _draw_curve(axes[1], result, found)
        _draw_slope(axes[2], found)
        for ax in axes:
            _shade(ax, found)
        step_axis(axes[2], result.steps)
    return figure


def _draw_losses(ax: Any, result: "Trajectory", losses: Sequence[str]) -> None:
    for number, name in enumerate(losses):
        colour = CYCLE[number % len(CYCLE)]
        ax.plot(result.steps, result.column(name), color=colour, label=name.replace("_", " "))
    ax.set_ylabel("loss")
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.legend(loc="lower left", ncols=len(losses), bbox_to_anchor=(0, 1.0))


def _draw_curve(ax: Any, result: "Trajectory", found: "Transitions") -> None:
    low, high = result.interval(0.9)
    errors = np.abs(np.array([result.llc - low, high - result.llc]))
    ax.errorbar(
        result.steps, result.llc, errors, fmt="o", ms=2.5, color=COLOURS["main"], elinewidth=0.8,
        label="LLC",
    )  # fmt: skip
    ax.plot(found.curve["step"], found.curve["mean"], color=COLOURS["muted"], label="smooth curve")
    for transition in found:
        ax.axvline(transition.step, color=COLOURS["third"], lw=0.8)
    ax.set_ylabel(r"LLC $\hat\lambda$")
    ax.legend(loc="upper left")


def _draw_slope(ax: Any, found: "Transitions") -> None:
    steps, slope, sd = (np.array(found.curve[name]) for name in ("step", "slope", "slope_sd"))
    ax.fill_between(steps, slope - 2 * sd, slope + 2 * sd, color=COLOURS["muted"], alpha=0.3, lw=0)
    ax.plot(steps, slope, color=COLOURS["muted"])
    ax.axhline(0, color="black", lw=0.5)
    ax.set_ylabel(r"d$\hat\lambda$/d ln $t$")


def _shade(ax: Any, found: "Transitions") -> None:
    for stage in found.stages:
        colour = SHADES[stage.direction]
        ax.axvspan(stage.start, stage.end, color=colour, alpha=0.1, lw=0, zorder=0)
