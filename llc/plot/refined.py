"""Refined LLCs as a matrix: parts of a network by training step."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError
from llc.plot.figures import COLUMN, PAGE, drawn, literal
from llc.plot.trajectory import settings_line

if TYPE_CHECKING:
    from llc.refined import Refined

__all__ = ["refined"]

VALUES = {
    "llc": r"refined LLC $\hat\lambda$",
    "per_weight": r"$2\hat\lambda$ / number of weights",
    "saturation": r"$\hat\lambda$ / prior-only null",
}
SPAN = 20.0
WRITTEN = 12
"""Up to so many columns a cell says its number."""


def refined(result: "Refined", ax: Any = None, *, value: str = "llc") -> Any:
    """Draw refined LLCs as a matrix, rows parts and columns training steps.

    A cross marks a verdict that failed; a grey cell, what could not be estimated. Colours are
    logarithmic where the largest number is more than twenty times the smallest.

    Args:
        result: what `llc.refine` returned.
        ax: axes to draw on; None makes a figure of its own.
        value: ``"llc"``; ``"per_weight"``, 2λ̂ over the part's number of weights, 1 where all of
            them count; or ``"saturation"``, λ̂ over the prior-only null.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: another ``value``, or nothing to draw.
    """
    if value not in VALUES:
        raise InputError(f"value is {value!r}, expected one of {', '.join(VALUES)}")
    values = _values(result, value)
    if not np.isfinite(values).any():
        raise InputError(f"{result.name} holds no finite refined LLC to draw")
    caption = (
        f"{result.name}: refined LLC of {len(result.parts)} parts, all other weights at w*, at "
        f"{len(result.steps)} training steps; crosses: the verdict failed; "
        f"{settings_line(result, only=False)}."
    )
    rows, columns = values.shape
    size = (COLUMN if columns <= 4 else PAGE, 0.7 + 0.24 * max(rows, 4))
    return drawn(lambda axes: _draw(axes, result, values, value), ax, size, caption)


def _values(result: "Refined", value: str) -> Array:
    if value == "per_weight":
        return 2 * result.grid() / result.dimensions[:, None]
    return result.grid(value)


def _draw(ax: Any, result: "Refined", values: Array, value: str) -> None:
    from matplotlib.colors import LogNorm, Normalize

    known = values[np.isfinite(values)]
    positive = known[known > 0]
    wide = len(positive) == len(known) and known.max() > SPAN * known.min()
    norm = (LogNorm if wide else Normalize)(
        known.min() if wide else min(0.0, known.min()), max(known.max(), 1e-9)
    )
    ax.set_facecolor("#D0D0D0")
    shown = ax.imshow(values, aspect="auto", cmap="cividis", norm=norm, interpolation="nearest")
    rows, columns = values.shape
    sound = np.isfinite(result.grid(failed=False))
    failed = np.isfinite(values) & ~sound
    if columns <= WRITTEN:
        _write(ax, values, norm, failed)
    elif failed.any():
        ax.plot(*np.nonzero(failed)[::-1], "x", color="white", ms=4, mew=0.8)
    ax.set_yticks(range(rows), [literal(part) for part in result.parts])
    places = np.unique(np.linspace(0, columns - 1, min(columns, WRITTEN)).round().astype(int))
    ax.set_xticks(places, [f"{result.steps[k]:,.0f}" for k in places])
    ax.set_xlabel("training step")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    bar = ax.figure.colorbar(shown, ax=ax, pad=0.015)
    bar.set_label(VALUES[value])
    bar.outline.set_linewidth(0.6)


def _write(ax: Any, values: Array, norm: Any, failed: Any) -> None:
    """Write each cell's number in it, light on dark and dark on light."""
    for (row, column), number in np.ndenumerate(values):
        if not np.isfinite(number):
            continue
        text = f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
        mark = " ×" if failed[row, column] else ""
        ax.text(
            column, row, text + mark, ha="center", va="center", fontsize=6.5,
            color="white" if norm(number) < 0.55 else "black",
        )  # fmt: skip
