"""Stages of a run: losses, LLC with its smooth curve, and the slope whose zeros part them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llc.errors import InputError, some
from llc.plot.figures import COLOURS, CYCLE, PAGE, literal, sheet, step_axis
from llc.plot.trajectory import settings_line

if TYPE_CHECKING:
    from llc.trajectory import Trajectory
    from llc.transitions import Stages, Transition

__all__ = ["stages"]

SHADES = {"rising": COLOURS["second"], "falling": COLOURS["main"], "flat": COLOURS["muted"]}


def stages(
    result: "Trajectory",
    found: "Stages",
    *,
    transitions: "Sequence[Transition]" = (),
    losses: Sequence[str] = ("train_loss",),
) -> Any:
    """Chart losses, LLC and the LLC's slope over ln step, shaded by stages.

    Args:
        result: what `llc.trace` returned.
        found: what `llc.transitions.find_stages` returned for it.
        transitions: what `llc.find_transitions` returned, drawn as lines.
        losses: columns of metadata for the upper panel.

    Returns:
        The figure.

    Raises:
        InputError: no such column.
    """
    for name in losses:
        if name not in result.metadata_names:
            known = some(result.metadata_names, 8)
            raise InputError(f"{result.name} has no {name!r}, expected one of {known}")
    headline = getattr(transitions, "headline", "")
    lines = f" Green lines: transitions; {headline}." if transitions else ""
    caption = (
        f"{result.name}: losses, LLC with 90 % intervals and smooth curve, and its slope in ln "
        "step with two standard deviations. Shaded: where it rises (orange) or falls (blue) by "
        f"more than those, and where it does neither (grey).{lines} {settings_line(result)}."
    )
    with sheet(PAGE, 5.4, caption) as figure:
        axes = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1.3, 0.8])
        _draw_losses(axes[0], result, losses)
        _draw_curve(axes[1], result, found)
        for transition in transitions:
            axes[1].axvline(transition.step, color=COLOURS["third"], lw=0.8)
        _draw_slope(axes[2], found)
        for ax in axes:
            _shade(ax, found)
        step_axis(axes[2], result.steps)
    return figure


def _draw_losses(ax: Any, result: "Trajectory", losses: Sequence[str]) -> None:
    for number, name in enumerate(losses):
        colour = CYCLE[number % len(CYCLE)]
        ax.plot(
            result.steps, result.column(name), color=colour, label=literal(name.replace("_", " "))
        )
    ax.set_ylabel("loss")
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.legend(loc="lower left", ncols=len(losses), bbox_to_anchor=(0, 1.0))


def _draw_curve(ax: Any, result: "Trajectory", found: "Stages") -> None:
    low, high = result.interval(0.9)
    errors = np.abs(np.array([result.llc - low, high - result.llc]))
    ax.errorbar(
        result.steps, result.llc, errors, fmt="o", ms=2.5, color=COLOURS["main"], elinewidth=0.8,
        label="LLC",
    )  # fmt: skip
    ax.plot(found.curve["step"], found.curve["mean"], color=COLOURS["muted"], label="smooth curve")
    ax.set_ylabel(r"LLC $\hat\lambda$")
    ax.legend(loc="upper left")


def _draw_slope(ax: Any, found: "Stages") -> None:
    steps, slope, sd = (np.array(found.curve[name]) for name in ("step", "slope", "slope_sd"))
    ax.fill_between(steps, slope - 2 * sd, slope + 2 * sd, color=COLOURS["muted"], alpha=0.3, lw=0)
    ax.plot(steps, slope, color=COLOURS["muted"])
    ax.axhline(0, color="black", lw=0.5)
    ax.set_ylabel(r"d$\hat\lambda$/d ln $t$")


def _shade(ax: Any, found: "Stages") -> None:
    for stage in found.stages:
        colour = SHADES[stage.direction]
        ax.axvspan(stage.start, stage.end, color=colour, alpha=0.1, lw=0, zorder=0)
