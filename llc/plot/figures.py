"""One look for all figures, and files of each kind a paper needs."""

from pathlib import Path
from typing import Any

from llc.errors import InputError

__all__ = ["COLOURS", "STYLE", "save"]

# Okabe & Ito's palette: told apart by colour-blind readers and in grey print.
COLOURS = {
    "main": "#0072B2",
    "second": "#D55E00",
    "third": "#009E73",
    "muted": "#6E6E6E",
}
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


def save(figure: Any, path: str | Path) -> list[Path]:
    """Write a figure as PDF, SVG and PNG, or as the one kind that ``path`` ends in.

    Raises:
        InputError: the ending is of another kind.
    """
    import matplotlib

    path = Path(path)
    kinds = [path.suffix] if path.suffix else [".pdf", ".svg", ".png"]
    if kinds[0] not in (".pdf", ".svg", ".png"):
        raise InputError(f"{path.name} ends in {path.suffix!r}, expected .pdf, .svg or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for kind in kinds:
            target = path.with_suffix(kind)
            # Dates would make every file differ from the last.
            metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(kind)
            figure.savefig(target, metadata=metadata)
            written.append(target)
    return written
