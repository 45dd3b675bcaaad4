"""One look for all figures, and files of each kind a paper needs."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llc.errors import InputError
from llc.files import write_whole

__all__ = [
    "COLOURS",
    "COLUMN",
    "CYCLE",
    "PAGE",
    "STYLE",
    "drawn",
    "literal",
    "plain_ticks",
    "save",
    "sheet",
    "step_axis",
]

COLUMN, PAGE = 3.25, 6.75
"""Widths of one column and of a page, in inches."""

# Okabe & Ito's palette: told apart by colour-blind readers and in grey print.
COLOURS = {
    "main": "#0072B2",
    "second": "#D55E00",
    "third": "#009E73",
    "muted": "#6E6E6E",
}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6BB1")
MOST_SPAN = 100
"""Largest over smallest number of a logarithmic axis that is written in plain numbers."""
STYLE: dict[str, Any] = {
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "legend.fontsize": 7.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "figure.dpi": 150.0,
    "savefig.dpi": 200.0,
    "pdf.fonttype": 42,
    "svg.hashsalt": "llc",
}


@contextmanager
def sheet(width: float, height: float, caption: str) -> Iterator[Any]:
    """Give an empty figure in the common look; what it shows and at which settings goes with it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.set_label(caption)
        yield figure


def drawn(draw: Callable[[Any], None], ax: Any, size: tuple[float, float], caption: str) -> Any:
    """Draw on axes that were given and return them, or on a sheet of its own and return that."""
    if ax is not None:
        draw(ax)
        return ax
    with sheet(*size, caption) as figure:
        draw(figure.subplots())
    return figure


def save(figure: Any, path: str | Path) -> list[Path]:
    """Write a figure as PDF, SVG and PNG, or as the one kind that ``path`` ends in.

    The caption (what is drawn, and the settings behind it) goes into the files' metadata and into
    ``path`` with the ending ``.caption.txt``. Equal figures give equal bytes.

    Returns:
        The figure's files; the caption's is beside them.

    Raises:
        InputError: the ending is of another kind.
    """
    import matplotlib

    path = Path(path)
    kinds = [path.suffix] if path.suffix else [".pdf", ".svg", ".png"]
    if kinds[0] not in (".pdf", ".svg", ".png"):
        raise InputError(f"{path.name} ends in {path.suffix!r}, expected .pdf, .svg or .png")
    caption = figure.get_label() or ""
    # Dates would make every file differ from the last.
    metadata: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None, "Subject": caption},
        ".svg": {"Date": None, "Description": caption},
        ".png": {"Description": caption},
    }
    written = []
    with matplotlib.rc_context(STYLE):
        for kind in kinds:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind[1:], metadata=metadata[kind])
            written.append(path.with_suffix(kind))
            write_whole(written[-1], buffer.getvalue())
    if caption:
        write_whole(path.with_suffix(".caption.txt"), f"{caption}\n".encode())
    return written


def literal(text: str) -> str:
    """Return a name that somebody else gave, to be drawn as it is: a dollar in it is no formula."""
    return text.replace("$", r"\$")


def step_axis(ax: Any, steps: Any) -> None:
    """Make x a logarithmic axis of training steps; step 0, if there, keeps a place."""
    if (steps > 0).all():
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=steps[steps > 0].min() if (steps > 0).any() else 1.0)
    _whole_ticks(ax, steps)
    ax.set_xlabel("training step")


def _whole_ticks(ax: Any, steps: Any) -> None:
    """Write 0, 1, 2, 5, 10, … where that is few numbers, as of epochs."""
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    after = steps[steps > 0]
    if not len(after) or after.min() < 1 or after.max() > MOST_SPAN * after.min():
        return
    ticks = [k * 10**e for e in range(8) for k in (1, 2, 5)]
    ticks = [t for t in ticks if after.min() <= t <= after.max()]
    if len(ticks) > 1:
        ax.set_xticks([*([] if len(after) == len(steps) else [0]), *ticks])
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.xaxis.set_minor_locator(NullLocator())


def plain_ticks(axis: Any) -> None:
    """Write a logarithmic axis as 1, 2, 5, 10, …, and leave the rest unlabelled."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
