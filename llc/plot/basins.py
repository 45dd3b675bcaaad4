"""Which checkpoints lie in one basin: barriers beside similarity, and barriers over training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError
from llc.plot.figures import COLOURS, PAGE, drawn, literal, plain_ticks, sheet, step_axis

if TYPE_CHECKING:
    from llc.trajectory.basins import Basins

__all__ = ["barriers", "basins"]

MOST_LABELS = 16
NARROW = 50
NONE = "#E4E4E4"
LOOKS = {
    "straight": ("o-", COLOURS["main"], "straight line"),
    "aligned": ("s--", COLOURS["second"], "straight line, aligned"),
    "curve": ("^:", COLOURS["third"], "optimised curve"),
}
SIMILARITIES = {"cka": "linear CKA", "procrustes": "Procrustes similarity"}


def basins(
    result: "Basins",
    *,
    kind: str = "straight",
    layer: str | None = None,
    measure: str = "cka",
) -> Any:
    """Show every pair of checkpoints: the barrier between them beside how alike they compute.

    Checkpoints of one basin are a square of no barriers along the diagonal; whether they are one
    of similarity too is what the other panel says. Barriers below the resolution are grey.

    Args:
        result: what `llc.basins` returned.
        kind: of barrier, ``"straight"``, ``"aligned"`` or ``"curve"``.
        layer: whose representations; the last before the output unless given.
        measure: ``"cka"`` or ``"procrustes"``.

    Returns:
        The figure.

    Raises:
        InputError: no such layer or measure, or a kind that was not measured.
    """
    heights = result.heights(kind)
    if heights is None:
        raise InputError(f"no barrier of kind {kind} was measured: run llc.basins with it")
    if measure not in SIMILARITIES:
        raise InputError(f"measure is {measure!r}, expected 'cka' or 'procrustes'")
    layer = result.hidden if layer is None else layer
    alike = getattr(result, measure)
    if layer is not None and layer not in alike:
        raise InputError(f"layer is {layer!r}, expected one of {', '.join(alike) or 'none'}")
    with sheet(PAGE if layer else PAGE / 2, 3.05, _caption(result, kind, layer, measure)) as figure:
        panels = figure.subplots(1, 2 if layer else 1, squeeze=False)[0]
        _draw_barriers(panels[0], result, heights, kind)
        if layer is not None:
            image = panels[1].imshow(alike[layer], cmap="cividis", vmin=0.0, vmax=1.0)
            _name_axes(panels[1], result)
            panels[1].set_title(f"representations, layer {literal(layer)}")
            _bar(panels[1], image, SIMILARITIES[measure], "neither")
    return figure


def barriers(result: "Basins", ax: Any = None) -> Any:
    """Chart the barrier to the last checkpoint over training, and that between neighbours.

    Points below the resolution stand on its line, hollow.

    Args:
        result: what `llc.basins` returned.
        ax: axes for the barrier to the last checkpoint alone; None makes a figure of its own.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    if ax is not None:
        return drawn(lambda given: _draw_to_last(given, result), ax, (0, 0), "")
    caption = (
        f"{result.name}: loss barrier to the checkpoint of step {result.steps[-1]:,} (left) and "
        f"between neighbours (right); hollow: below {result.resolution:.1g}, where rounding "
        f"begins.{_ways(result)}"
    )
    with sheet(PAGE, 2.9, caption) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_to_last(left, result)
        _draw_neighbours(right, result)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _draw_barriers(ax: Any, result: "Basins", heights: Array, kind: str) -> None:
    import matplotlib
    from matplotlib.colors import LogNorm, Normalize

    seen = heights[np.isfinite(heights) & (heights > result.resolution)]
    norm: Any = Normalize(0.0, 1.0)
    if len(seen):
        low, high = float(seen.min()), float(seen.max())
        norm = LogNorm(low, high if high > 1.02 * low else 1.02 * low)
    colours = matplotlib.colormaps["viridis_r"].with_extremes(under=NONE, bad="white")
    # What is not above rounding goes below the scale, whatever its sign.
    shown = np.where(heights <= result.resolution, -1.0 if not len(seen) else 1e-300, heights)
    image = ax.imshow(shown, cmap=colours, norm=norm)
    _name_axes(ax, result)
    ax.set_title(f"barrier, {LOOKS[kind][2]}")
    if len(seen):
        _bar(ax, image, "loss barrier (grey: none)", "min")
    else:
        ax.set_title("no barrier anywhere")


def _bar(ax: Any, image: Any, label: str, extend: str) -> None:
    bar = ax.figure.colorbar(image, ax=ax, extend=extend, fraction=0.046, pad=0.03)
    bar.set_label(label)
    bar.outline.set_linewidth(0.6)


def _name_axes(ax: Any, result: "Basins") -> None:
    count = len(result.steps)
    every = -(-count // MOST_LABELS)
    # The last is what all others are compared with.
    places = sorted({*range(0, count - max(every // 2, 1), every), count - 1})
    names = [f"{result.steps[place]:,}" for place in places]
    ax.set_xticks(places, names, rotation=90)
    ax.set_yticks(places, names)
    ax.set_xlabel("training step")
    ax.set_ylabel("training step")
    ax.tick_params(length=1.5)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _draw_to_last(ax: Any, result: "Basins") -> None:
    _open(ax, result)
    steps = np.array(result.steps, float)[:-1]
    for kind, (look, colour, label) in LOOKS.items():
        if result.heights(kind) is not None:
            _points(ax, steps, result.to_last(kind)[:-1], look, colour, label, result.resolution)
    _finish(ax, result, f"barrier to step {result.steps[-1]:,}")


def _draw_neighbours(ax: Any, result: "Basins") -> None:
    _open(ax, result)
    steps = np.array(result.steps, float)
    middles = np.sqrt(np.maximum(steps[1:], 0.5) * np.maximum(steps[:-1], 0.5))
    for kind, (look, colour, label) in LOOKS.items():
        if result.heights(kind) is not None:
            values = result.between_neighbours(kind)
            _points(ax, middles, values, look[:1], colour, label, result.resolution)
            shown = np.maximum(values, result.resolution)
            ax.hlines(shown, steps[:-1], steps[1:], color=colour, lw=0.8)
    _finish(ax, result, "barrier between neighbours")
    ax.tick_params(labelleft=True)


def _points(
    ax: Any, steps: Array, values: Array, look: str, colour: str, label: str, resolution: float
) -> None:
    """Draw barriers; those that rounding could make stand on its line, hollow."""
    shown = np.maximum(values, resolution)
    # Large under small: lines that agree stay to be seen.
    size = 5.5 if look[0] == "o" else 3
    ax.plot(steps, shown, look, ms=size, color=colour, label=label)
    none = values <= resolution
    ax.plot(steps[none], shown[none], look[0], ms=size, color=colour, mfc="white", zorder=3)


def _open(ax: Any, result: "Basins") -> None:
    """Make y logarithmic, from just below the resolution to just above the highest barrier."""
    matrices = [result.heights(kind) for kind in LOOKS]
    seen = np.concatenate([m[np.isfinite(m)] for m in matrices if m is not None])
    ax.set_yscale("log")
    ax.set_ylim(result.resolution / 3, 3 * max(float(seen.max()), 3 * result.resolution))


def _finish(ax: Any, result: "Basins", label: str) -> None:
    ax.axhline(result.resolution, color=COLOURS["muted"], lw=0.6, ls=":", zorder=0)
    ax.annotate(
        "rounding", (0.0, result.resolution), xycoords=("axes fraction", "data"), xytext=(2, 2),
        textcoords="offset points", ha="left", va="bottom", fontsize=6, color=COLOURS["muted"],
    )  # fmt: skip
    steps = np.array(result.steps, float)
    step_axis(ax, steps)
    if ax.get_xscale() == "log" and steps[-1] < NARROW * steps[0]:
        plain_ticks(ax.xaxis)
    ax.set_ylabel(label)


def _ways(result: "Basins") -> str:
    settings = result.settings
    data = settings.get("data", "own")
    words = [] if data == "own" else [f"on other data ({data})"]
    words += [f"{settings['points']} points of each path"] if "points" in settings else []
    if result.barrier_aligned is not None:
        words.append(f"aligned by {settings.get('symmetries')}")
    if result.barrier_curve is not None and settings.get("curves"):
        curves = settings["curves"]
        words.append(f"curves with {curves['bends']} bends, {curves['budget']:,} gradients at most")
    return f" {'; '.join(words)}." if words else ""


def _caption(result: "Basins", kind: str, layer: str | None, measure: str) -> str:
    beside = ""
    if layer is not None:
        beside = (
            f" and {SIMILARITIES[measure]} of layer {layer} over "
            f"{result.settings.get('examples')} examples"
        )
    return (
        f"{result.name}: loss barrier between checkpoints along the {LOOKS[kind][2]}{beside}; grey "
        f"where it is below {result.resolution:.1g}, which may be rounding.{_ways(result)}"
    )
