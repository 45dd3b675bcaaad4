"""Estimates against what they should be, over the whole suite."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.plot.figures import COLOURS, sheet

if TYPE_CHECKING:
    from llc.validation import Validation

__all__ = ["validation"]

GROUPS = (
    ("closed form", "exact B", "main", "o"),
    ("teacher", "linear nets, λ for B", "second", "s"),
    ("polygon", "superposition, λ for B", "third", "^"),
)
WIDTH = 1.645  # of a 90 % interval, in standard errors


def validation(result: "Validation") -> Any:
    """Chart C against B on logarithmic axes, and below it the error in percent.

    Bars are 90 % intervals; where B is not known λ stands in for it. The grey band is ±5 %.

    Args:
        result: what `llc.validate` returned.

    Returns:
        The figure.
    """
    s = result.settings
    caption = (
        f"Estimates C of the {result.tier} suite against exact expectations B (λ where B is not "
        f"known), with 90 % bars, and their errors below; grey: ±5 %. Sampler "
        f"{s.get('sampler', 'auto')}, precision {s.get('precision', 0.05):g}, llc "
        f"{result.versions['llc']}."
    )
    with sheet(4.6, 5.4, caption) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
        everything = []
        for group, label, colour, marker in GROUPS:
            rows = [r for r in result.group(group) if r.c is not None and r.reference]
            if not rows:
                continue
            x = np.array([r.reference for r in rows])
            y = np.array([r.c for r in rows])
            bars = WIDTH * np.array([r.c_error or 0.0 for r in rows])
            everything += [x, y]
            look = {"fmt": marker, "ms": 3.2, "lw": 0.8, "color": COLOURS[colour], "alpha": 0.8}
            upper.errorbar(x, y, bars, label=f"{label} ({len(rows)} estimates)", **look)
            lower.errorbar(x, 100 * (y / x - 1), 100 * bars / x, **look)
        if everything:
            ends = np.array([np.concatenate(everything).min(), np.concatenate(everything).max()])
            ends = ends * [0.8, 1.25]
            upper.plot(ends, ends, color="black", lw=0.6, zorder=0)
            upper.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
            upper.legend(loc="upper left")
        lower.axhline(0, color="black", lw=0.6, zorder=0)
        lower.axhspan(-5, 5, color=COLOURS["muted"], alpha=0.15, lw=0)
        upper.set_ylabel("estimate C")
        lower.set_ylabel("error (%)")
        lower.set_xlabel("exact expectation B, or λ")
    return figure
