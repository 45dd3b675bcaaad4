"""The LLC of checkpoints that are no run: against how many exceptions, or how much of another."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError
from llc.plot.figures import COLOURS, COLUMN, drawn, plain_ticks
from llc.plot.trajectory import settings_line

if TYPE_CHECKING:
    from llc.trajectory import Trajectory

__all__ = ["against"]

WORDS = {
    "planted": "planted exceptions k",
    "mixing_weight": "mixing weight m",
    "step": "training step",
}
NEAR = 3.0


def against(result: "Trajectory", ax: Any = None, *, x: str = "planted") -> Any:
    """Chart the LLC with 90 % intervals, and the prior-only null, against a number of metadata.

    Args:
        result: what `llc.trace` returned, of `llc.planting.plant` or `interpolants`, say.
        ax: axes to draw on; None makes a figure of its own.
        x: name of a column of metadata, or ``"step"``.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: no such column, or no number in it.
    """
    names = ["step", *result.metadata_names]
    if x not in names:
        raise InputError(f"{result.name} has no {x!r}, expected one of {', '.join(names)}")
    places = result.steps if x == "step" else result.column(x)
    if not np.isfinite(places).any():
        raise InputError(f"{x!r} of {result.name} holds no number at any checkpoint")
    words = WORDS.get(x, x.replace("_", " "))
    text = (
        f"{result.name}: LLC with 90 % intervals against {words}, and what the prior "
        f"alone would give{'' if _is_near(result) else ', more than three times as much'}; "
        f"{settings_line(result)}."
    )
    return drawn(lambda ax: _draw(ax, result, places, words), ax, (COLUMN, 2.6), text)


def _draw(ax: Any, result: "Trajectory", places: Array, words: str) -> None:
    order = np.argsort(places)
    low, high = result.interval(0.9)
    values = result.llc
    ax.errorbar(
        places[order], values[order], np.abs(np.array([values - low, high - values]))[:, order],
        fmt="o-", ms=3, color=COLOURS["main"], capsize=2, elinewidth=0.8, label="LLC",
    )  # fmt: skip
    shown = values[np.isfinite(values)]
    if _is_near(result):
        null = result.column("null")
        ax.plot(
            places[order], null[order], "--", color=COLOURS["main"], alpha=0.6, lw=0.8,
            label="prior-only null",
        )  # fmt: skip
        shown = np.concatenate([shown, null[np.isfinite(null)]])
    if len(shown) and (shown > 0).all() and shown.max() > 4 * shown.min():
        ax.set_yscale("log")
        plain_ticks(ax.yaxis)
    else:
        ax.set_ylim(bottom=min(0.0, *shown) if len(shown) else 0.0)
    failed = np.array([point.estimate.verdict.status == "fail" for point in result.points])
    if failed.any():
        ax.plot(places[failed], values[failed], "x", color="black", ms=6, label="verdict: fail")
    ax.set_xlabel(words)
    ax.set_ylabel(r"local learning coefficient $\hat\lambda$")
    ax.legend(loc="best")


def _is_near(result: "Trajectory") -> bool:
    """Whether the null is anywhere within reach: far above, it would hide the curve."""
    values = result.llc[np.isfinite(result.llc)]
    return bool(len(values)) and not bool((result.column("null") > NEAR * values.max()).all())
