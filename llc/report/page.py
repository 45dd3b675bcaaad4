"""A run as one self-contained HTML page: no network, no script, the same bytes every time."""

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llc
from llc import plot
from llc.estimation.estimate import rounded
from llc.files import write_whole

if TYPE_CHECKING:
    from llc.trajectory import Point, Trajectory
    from llc.transitions import Transitions

__all__ = ["write_report"]

TEMPLATE = Path(__file__).with_name("page.html")
GRAVITY = {"ok": 0, "warn": 1, "fail": 2}


def write_report(
    result: "Trajectory",
    path: str | Path,
    *,
    transitions: "Transitions | None" = None,
    control: "Trajectory | None" = None,
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Write a run's figures, transitions, checkpoints, verdicts and settings as one HTML page.

    Figures are drawn into the page; it reads without a network and without scripts. All text that
    comes from elsewhere (names, metadata, messages) is escaped.

    Args:
        result: what `llc.trace` returned, or `Trajectory.load`.
        path: of the page.
        transitions: what `llc.find_transitions` returned; None leaves them out.
        control: a second run, drawn beside the first.
        versions: of what computed the estimates; this installation's unless given.

    Returns:
        The path.
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=result.name,
        summary=_summary(result),
        figures=_figures(result, transitions, control),
        transitions=None if transitions is None else _transitions(transitions),
        metadata=[name.replace("_", " ") for name in result.metadata_names],
        rows=[_row(point, result.metadata_names) for point in result.points],
        reasons=_reasons(result),
        skipped=sorted(result.skipped.items()),
        settings=str(result.settings),
        versions=", ".join(f"{k} {v}" for k, v in (versions or {"llc": llc.__version__}).items()),
    )
    path = Path(path)
    write_whole(path, page.encode())
    return path


def _summary(result: "Trajectory") -> str:
    counts = dict.fromkeys(GRAVITY, 0)
    for point in result.points:
        counts[point.estimate.verdict.status] += 1
    measured = [p for p in result.points if math.isfinite(p.estimate.llc)]
    text = f"{len(result.points)} checkpoints of {result.points[0].estimate.dimension:,} parameters"
    if measured:
        ends = (measured[0], max(measured, key=lambda p: p.estimate.llc), measured[-1])
        first, top, last = (f"{_llc(p)} at step {p.step:,}" for p in ends)
        text += f": LLC {first}, at most {top}, {last} at the end"
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    lost = f", {len(result.skipped)} not estimated" if result.skipped else ""
    return f"{text}. Verdicts: {words}{lost}."


def _figures(
    result: "Trajectory", transitions: "Transitions | None", control: "Trajectory | None"
) -> list[dict[str, Any]]:
    main = plot.trajectory(result, control=control, transitions=transitions)
    figures = [_inline(main, narrow=False)]
    if len(result.points) > 1:
        figures.append(_inline(plot.portrait(result), narrow=True))
    if "n_eff" in result.metadata_names:
        figures.append(_inline(plot.dimension(result), narrow=True))
    worst = max(result.points, key=_doubt)
    chains = _inline(plot.chains(worst.estimate), narrow=False)
    chains["caption"] = f"Step {worst.step:,}, whose verdict is the gravest. {chains['caption']}"
    return [*figures, chains]


def _doubt(point: "Point") -> tuple[int, float]:
    off = abs(point.estimate.virial - 1)
    return GRAVITY[point.estimate.verdict.status], off if math.isfinite(off) else math.inf


def _inline(figure: Any, narrow: bool) -> dict[str, Any]:
    """Turn a figure into SVG to stand inside a page: no prologue, no size, a label to be read."""
    import matplotlib
    from markupsafe import Markup, escape

    from llc.plot.figures import STYLE

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    caption = figure.get_label()
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    label = escape(caption.split(";")[0].split(":")[0])
    return {
        "svg": Markup(f'{head} role="img" aria-label="{label}">{rest}'),
        "caption": caption,
        "narrow": narrow,
    }


def _transitions(found: "Transitions") -> dict[str, Any]:
    rows = [
        {
            "step": f"{t.step:,.0f}",
            "interval": f"{t.interval[0]:,.0f} to {t.interval[1]:,.0f}",
            "jump": " ± ".join(rounded(t.jump, t.jump_se)),
            "kind": t.kind,
            "support": f"{t.support:.0%}",
        }
        for t in found
    ]
    return {
        "words": f"{found.headline[0].upper()}{found.headline[1:]}.",
        "notes": found.notes,
        "rows": rows,
    }


def _row(point: "Point", names: list[str]) -> dict[str, Any]:
    e = point.estimate
    low, high = e.interval(0.9)
    return {
        "step": f"{point.step:,}",
        "llc": _llc(point),
        "interval": f"{low:.4g} to {high:.4g}" if math.isfinite(low) else "",
        "null": f"{e.null:.4g}",
        "virial": f"{e.virial:.2f}",
        "rhat": f"{e.rhat:.3f}",
        "ess": f"{e.ess:.0f}",
        "metadata": [_short(point.metadata.get(name)) for name in names],
        "status": e.verdict.status,
        "reasons": ", ".join(r.name.replace("_", " ").lower() for r in e.verdict.reasons),
    }


def _llc(point: "Point") -> str:
    e = point.estimate
    return " ± ".join(rounded(e.llc, e.mcse)) if math.isfinite(e.llc) else "not measured"


def _short(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4g}"


def _reasons(result: "Trajectory") -> list[dict[str, str]]:
    """Give each kind of doubt once: its sentence at one checkpoint, and all it concerns."""
    first: dict[str, str] = {}
    steps: dict[str, list[str]] = {}
    for point in result.points:
        verdict = point.estimate.verdict
        for reason, sentence in zip(verdict.reasons, verdict.sentences, strict=True):
            first.setdefault(reason.name, sentence)
            steps.setdefault(reason.name, []).append(f"{point.step:,}")
    return [
        {"sentence": f"{sentence[0].upper()}{sentence[1:]}.", "steps": _some(steps[name])}
        for name, sentence in first.items()
    ]


def _some(steps: list[str]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]}"
    shown = ", ".join(steps[:6])
    return f"steps {shown}" + (f" and {len(steps) - 6} more" if len(steps) > 6 else "")
