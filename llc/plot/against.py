"""The LLC of checkpoints that are no run: against how many exceptions, or how much of another."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError, some
from llc.plot.figures import COLOURS, COLUMN, literal, plain_ticks, sheet
from llc.plot.trajectory import settings_line

if TYPE_CHECKING:
    from llc.trajectory import Trajectory

__all__ = ["against"]

WORDS = {
    "planted": "planted exceptions k",
    "mixing_weight": "mixing weight m",
    "step": "training step",
}
SPAN = 20.0
"""Above so many times the smallest LLC the largest needs a logarithm to be seen beside it."""


def against(result: "Trajectory", ax: Any = None, *, x: str = "planted") -> Any:
    """Chart the LLC with 90 % intervals against a number of metadata; below, LLC over null.

    A ratio to the prior-only null that stays level says that flatness alone would tell the story.

    Args:
        result: what `llc.trace` returned, of `llc.plant` or `llc.interpolants`, say.
        ax: axes for the LLC alone; None makes a figure of its own.
        x: name of a column of metadata, or ``"step"``.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: no such column, or no number in it.
    """
    names = ["step", *result.metadata_names]
    if x not in names:
        raise InputError(f"{result.name} has no {x!r}, expected one of {some(names, 8)}")
    places = result.steps if x == "step" else result.column(x)
    if not np.isfinite(places).any():
        raise InputError(f"{x!r} of {result.name} holds no number at any checkpoint")
    words = WORDS.get(x, x.replace("_", " "))
    if ax is not None:
        _draw(ax, result, places)
        ax.set_xlabel(literal(words))
        return ax
    text = (
        f"{result.name}: LLC with 90 % intervals against {words}; below, its ratio to what the "
        f"prior alone would give; {settings_line(result)}."
    )
    with sheet(COLUMN, 3.3, text) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        _draw(upper, result, places)
        _draw_ratio(lower, result, places)
        lower.set_xlabel(literal(words))
    return figure


def _draw(ax: Any, result: "Trajectory", places: Array) -> None:
    order = np.argsort(places)
    low, high = result.interval(0.9)
    values = result.llc
    ax.errorbar(
        places[order], values[order], np.abs(np.array([values - low, high - values]))[:, order],
        fmt="o-", ms=3, color=COLOURS["main"], capsize=2, elinewidth=0.8,
    )  # fmt: skip
    shown = values[np.isfinite(values)]
    if len(shown) and (shown > 0).all() and shown.max() > SPAN * shown.min():
        ax.set_yscale("log")
        plain_ticks(ax.yaxis)
    elif len(shown):
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]) if shown.min() < 0 else 0.0)
    failed = np.array([point.estimate.verdict.status == "fail" for point in result.points])
    if failed.any():
        ax.plot(places[failed], values[failed], "x", color="black", ms=6, label="verdict: fail")
        ax.legend(loc="best")
    ax.set_ylabel(r"LLC $\hat\lambda$")


def _draw_ratio(ax: Any, result: "Trajectory", places: Array) -> None:
    order = np.argsort(places)
    ratio = result.column("saturation")[order]
    ax.plot(places[order], ratio, "s-", ms=2.5, color=COLOURS["muted"])
    top = np.nanmax(ratio) if np.isfinite(ratio).any() else 1.0
    ax.set_ylim(min(0.0, np.nanmin(ratio, initial=0.0)), max(1.1 * top, 0.05))
    ax.set_ylabel("LLC / null")
