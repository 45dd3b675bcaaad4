"""A sweep as heat maps: step size × γ, one panel an nβ, every number written out."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.estimation.estimate import rounded
from llc.parts import shown
from llc.plot.figures import sheet

if TYPE_CHECKING:
    from llc.sweeps import Cell, Sweep

__all__ = ["sweep"]

MARKS = {"ok": "", "warn": " ?", "fail": " !"}
MAP = "cividis"
DIVERGED = "#D9D9D9"
NEGATIVE = "#F6C9BE"
LOGARITHMIC_FROM = 5.0
CELL_WIDTH, CELL_HEIGHT = 0.62, 0.42
MOST_PANELS_A_ROW = 3


def sweep(result: "Sweep") -> Any:
    """Draw LLC by step size (rows) and γ (columns), one panel for each nβ.

    Colour is the LLC on one scale for all panels, spanned by the cells whose verdict did not fail
    (where fewer than two are left, by all within tenfold of their median), so that no outlier eats
    it up. Diverged cells are crossed out, negative ones red, the chosen cell framed; every cell
    that has a number shows it with its standard error, and a mark where its verdict warned or
    failed.

    Args:
        result: what `llc.sweep` returned.

    Returns:
        The figure.
    """
    import matplotlib
    from matplotlib.cm import ScalarMappable

    panels = len(result.n_betas)
    columns = min(panels, MOST_PANELS_A_ROW)
    rows = -(-panels // columns)
    width = columns * max(CELL_WIDTH * len(result.gammas), 1.6) + 1.7
    height = rows * (CELL_HEIGHT * len(result.step_sizes) + 0.55) + 1.1
    with sheet(max(width, 4.6), height, _caption(result)) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        scale, beyond = _scale(result)
        colours = matplotlib.colormaps[MAP]
        for number, ax in enumerate(grid.flat):
            if number >= panels:
                ax.set_axis_off()
                continue
            _panel(ax, result, number, scale, colours)
            if number % columns == 0:
                ax.set_ylabel(f"step size ({result.settings.sampler})")
            if number + columns >= panels:
                ax.set_xlabel("$\\gamma$")
                ax.tick_params(labelbottom=True)
        if scale is not None:
            mappable = ScalarMappable(scale, colours)
            bar = figure.colorbar(mappable, ax=grid, extend=beyond, pad=0.015)
            bar.set_label("local learning coefficient")
            _plain(bar.ax.yaxis)
            bar.outline.set_linewidth(0.6)
        figure.legend(handles=_legend(result), loc="outside lower center", ncols=3)
    return figure


def _panel(ax: Any, result: "Sweep", number: int, scale: Any, colours: Any) -> None:
    from matplotlib.patches import Rectangle

    for i in range(len(result.step_sizes)):
        for j in range(len(result.gammas)):
            cell = result.cell(number, i, j)
            fill, hatch = _look(cell, scale, colours)
            corner = j - 0.5, i - 0.5
            ax.add_patch(
                Rectangle(corner, 1, 1, facecolor=fill, edgecolor="#9A9A9A" if hatch else "white",
                          lw=0.5, hatch=hatch)
            )  # fmt: skip
            if result.is_chosen(cell):
                inner = corner[0] + 0.03, corner[1] + 0.03
                ax.add_patch(Rectangle(inner, 0.94, 0.94, fill=False, ec="black", lw=2, zorder=3))
                ax.add_patch(Rectangle(inner, 0.94, 0.94, fill=False, ec="white", lw=0.6, zorder=4))
            box = {"boxstyle": "square,pad=0.1", "fc": DIVERGED, "ec": "none"} if hatch else None
            ink = "black" if _luminance(fill) > 0.45 else "white"
            ax.text(j, i, _words(cell), ha="center", va="center", fontsize=5.5, color=ink,
                    bbox=box, linespacing=1.15, zorder=5)  # fmt: skip
    ax.set_xlim(-0.5, len(result.gammas) - 0.5)
    ax.set_ylim(-0.5, len(result.step_sizes) - 0.5)
    ax.set_xticks(range(len(result.gammas)), [_tick(g) for g in result.gammas])
    ax.set_yticks(range(len(result.step_sizes)), [_tick(s) for s in result.step_sizes])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(f"$n\\beta$ = {result.n_betas[number]:.4g}")


def _look(cell: "Cell", scale: Any, colours: Any) -> tuple[Any, str | None]:
    if cell.kind == "diverged":
        return DIVERGED, "xxxx"
    if cell.kind == "negative":
        return NEGATIVE, None
    if scale is None or not cell.llc > 0:
        return "white", None
    return colours(float(scale(cell.llc))), None


def _words(cell: "Cell") -> str:
    if np.isnan(cell.llc):
        return f"{cell.diverged}/{cell.chains}\ndiverged"
    number, error = _short(cell.llc, cell.mcse)
    number = number.replace("-", "−")
    text = f"{number}{MARKS[cell.status]}\n±{error}"
    return f"{text}, −{cell.diverged} ch." if cell.diverged else text


def _tick(value: float) -> str:
    """Three digits, plain where that is shorter than a power of ten."""
    if 1e-3 <= value < 1e5:
        return f"{value:.3g}" if value < 1e3 else f"{value:.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _short(value: float, error: float) -> tuple[str, str]:
    """As `rounded`, but what has many digits before the point in powers of ten."""
    if abs(value) < 1e5 and not error >= 1e5:
        return rounded(value, error)
    return f"{value:.1e}", f"{error:.0e}"


def _luminance(fill: Any) -> float:
    from matplotlib.colors import to_rgb

    return float(np.dot(to_rgb(fill), [0.299, 0.587, 0.114]))


def _scale(result: "Sweep") -> tuple[Any, str]:
    """The colours' range, by cells to be trusted, and at which ends others lie beyond it."""
    from matplotlib.colors import LogNorm, Normalize

    shown = np.array([c.llc for c in result.cells if c.kind in ("ok", "warn", "fail")])
    shown = shown[np.isfinite(shown) & (shown > 0)]
    trusted = np.array([c.llc for c in result.cells if c.kind in ("ok", "warn")])
    trusted = trusted[trusted > 0]
    if not len(shown):
        return None, "neither"
    near = (shown > np.median(shown) / 10) & (shown < 10 * np.median(shown))
    span = trusted if len(trusted) > 1 else shown[near]
    low, high = float(span.min()), float(span.max())
    if high <= 1.02 * low:
        low, high = 0.9 * low, 1.1 * high
    below, above = (shown < low).any(), (shown > high).any()
    ends = {(True, True): "both", (True, False): "min", (False, True): "max"}
    beyond = ends.get((bool(below), bool(above)), "neither")
    kind = LogNorm if high > LOGARITHMIC_FROM * low else Normalize
    return kind(low, high, clip=True), beyond


def _plain(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    logarithmic = axis.get_scale() == "log"
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if logarithmic else MaxNLocator(6))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)


def _legend(result: "Sweep") -> list[Any]:
    """Explain what is there to see, and nothing else."""
    from matplotlib.patches import Patch

    cells = result.cells
    blank = {"facecolor": "none", "edgecolor": "none"}
    handles = []
    if any(map(result.is_chosen, cells)):
        handles.append(Patch(facecolor="white", edgecolor="black", lw=1.5, label="chosen"))
    if any(cell.kind == "diverged" for cell in cells):
        look = {"facecolor": DIVERGED, "edgecolor": "#9A9A9A", "hatch": "xxxx"}
        handles.append(Patch(**look, label="chains diverged"))
    if any(cell.kind == "negative" for cell in cells):
        handles.append(Patch(facecolor=NEGATIVE, edgecolor="white", label="negative"))
    for status in ("warn", "fail"):
        if any(cell.status == status and cell.llc == cell.llc for cell in cells):
            handles.append(Patch(**blank, label=f"{MARKS[status]}  verdict: {status}"))
    return [*handles, Patch(**blank, label="±  one standard error")]


def _caption(result: "Sweep") -> str:
    s = result.settings
    length = f"{s.burn_in} + {s.draws} steps" if s.draws else f"at most {s.budget:,} gradients"
    batch = f"batch {s.batch_size}" if s.batch_size else "all data"
    loss = ", behavioural loss" if s.behavioural else ""
    loss += "" if s.only is None else f", only {shown(s.only)} sampled"
    return (
        f"{result.name}: LLC by step size and γ, a panel for each nβ; {s.chains} chains a cell, "
        f"{length}, {batch}{loss}, seed {s.seed}."
    )
