"""What ``rlct plant`` and ``rlct mix`` share: made checkpoints traced, printed, charted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llc import plot
from llc.calibration import fill
from llc.cli.choices import execution_of, settings_of
from llc.cli.output import show
from llc.cli.tracing import workers_of
from llc.errors import InputError
from llc.estimation.estimate import rounded
from llc.files import check_writable
from llc.parts import restrict
from llc.private import private_copy
from llc.settings import Settings
from llc.task import Task
from llc.trajectory import Trajectory, trace
from llc.trajectory.disk import writable
from llc.trajectory.sameness import Blueprint

if TYPE_CHECKING:
    from llc.cli.options import Variants

__all__ = ["chosen_settings", "refuse_unsuited", "trace_variants"]

WHY = "what was made has no data in common but its inputs"


def chosen_settings(options: "Variants") -> Settings:
    """Return the settings asked for, behavioural, before anything is made.

    Raises:
        InputError: they cannot be used, or ``--out`` is a file.
    """
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out {options.out} is a file, expected a folder, which may not exist")
    with writable(options.out):
        check_writable(options.out)
    workers_of(options)
    asked = settings_of(options)
    return replace(asked, behavioural=True, reasons={**asked.reasons, "behavioural": WHY})


def refuse_unsuited(task: Task, settings: Settings) -> None:
    """Refuse settings that the trace of what is made would refuse, before it is made.

    Raises:
        InputError: they do not fit the data or the model.
    """
    fill(settings, task.size)
    if settings.only is not None:
        restrict(private_copy(task.model), task.symmetries, settings.only)


def trace_variants(
    options: "Variants",
    blueprint: Blueprint,
    settings: Settings,
    steps: Sequence[int],
    x: str,
    columns: Sequence[str],
) -> int:
    """Trace the checkpoints made, print a row for each, draw the LLC against ``x``.

    Returns:
        The exit code: 1 if ``--strict`` was given and something failed.
    """
    places = [options.out / "checkpoints" / f"step_{step:07d}.safetensors" for step in steps]
    result = trace(
        blueprint,
        places,
        out=options.out,
        settings=settings,
        workers=workers_of(options),
        execution=execution_of(options),
        progress=True,
    )
    with writable(options.out):
        figures = plot.save(plot.against(result, x=x), options.out / "figures" / "against")
    if options.json:
        show(_record(options.out, result, x))
    else:
        print(_text(options.out, result, x, columns, figures))
    failed = any(point.estimate.verdict.status == "fail" for point in result.points)
    return 1 if options.strict and (failed or result.skipped) else 0


def _text(
    out: Path, result: Trajectory, x: str, columns: Sequence[str], figures: Sequence[Path]
) -> str:
    shown = [name for name in columns if np.isfinite(result.column(name)).any()]
    heads = [x, "LLC", "prior-only null", "LLC/null", *shown, "verdict"]
    rows = [[head.replace("_", " ") for head in heads]]
    for i, point in enumerate(result.points):
        e = point.estimate
        rows.append(
            [
                f"{point.metadata[x]:g}",
                " ± ".join(rounded(e.llc, e.mcse)),
                " ± ".join(rounded(e.null, e.null_se)),
                f"{e.saturation:.2f}",
                *(_number(result.column(name)[i]) for name in shown),
                e.verdict.status,
            ]
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
    lines = [
        f"{result.name}: {len(result.points)} checkpoints made, "
        f"{result.points[0].estimate.dimension:,} parameters",
        *("  " + line for line in str(result.settings).splitlines()),
        "",
        *("  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in rows),
        "",
    ]
    for point in result.points:
        lines += [f"  ! {point.metadata[x]:g}: {s}" for s in point.estimate.verdict.sentences]
    lines += [f"  ! {step} skipped: {why}" for step, why in result.skipped.items()]
    lines.append(f"table    {out / 'trajectory.csv'}")
    lines.append("figures  " + "\n         ".join(map(str, figures)))
    return "\n".join(lines)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"


def _record(out: Path, result: Trajectory, x: str) -> dict[str, Any]:
    points = []
    for point in result.points:
        estimate = point.estimate.to_dict()
        del estimate["settings"]
        numbers = {k: v if np.isfinite(v) else None for k, v in point.metadata.items()}
        points.append({x: point.metadata[x], **estimate, "readings": numbers})
    return {
        "out": str(out),
        "task": result.name,
        "settings": result.settings.to_dict(),
        "points": points,
        "skipped": {str(step): why for step, why in result.skipped.items()},
    }
