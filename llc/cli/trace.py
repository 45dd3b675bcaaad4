"""``rlct trace``: every checkpoint of a training run, into a run folder."""

import itertools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llc import plot
from llc.cli.commands import remember
from llc.cli.output import show
from llc.cli.shards import refuse_limits, submitted
from llc.cli.tasks import arguments_of
from llc.cli.tracing import blueprint_of, traced, workers_of
from llc.errors import InputError
from llc.estimation.estimate import rounded
from llc.estimation.estimators import MOST_STEEP, steepness
from llc.maps import ScaleMap, scale_map
from llc.progress import Bar
from llc.trajectory import Trajectory
from llc.trajectory.disk import writable
from llc.trajectory.sameness import Blueprint

if TYPE_CHECKING:
    from pathlib import Path

    from llc.cli.options import Trace as Options
    from llc.trajectory import Point

__all__ = ["run"]

SHOWN = 5


def run(options: "Options") -> int:
    """Trace, write table and figure, print; 1 if ``--strict`` was given and something failed."""
    started = time.perf_counter()
    workers = workers_of(options)
    places = options.checkpoints
    if not places:
        raise InputError("no checkpoints given, expected a folder, files or a pattern in quotes")
    if options.follow and len(places) > 1:
        raise InputError(
            f"--follow is given with {len(places)} paths, expected a folder or a pattern: put the "
            "pattern in quotes, so that the shell leaves it alone"
        )
    blueprint = blueprint_of(options)
    if options.submit is None:
        refuse_limits(options)
        result = traced(options, blueprint)
    elif not submitted(options):
        return 0
    else:
        result = Trajectory.load(options.out)
        with writable(options.out):
            result.to_csv(options.out / "trajectory.csv")
    with writable(options.out):
        remember(
            options.out, options.task, places, arguments_of(options), options.step_from,
            options.entry, options.drop,
        )  # fmt: skip
        figures = plot.save(plot.trajectory(result), options.out / "figures" / "trajectory")
        if options.scales:
            mapped = _map_scales(options, blueprint, result, workers)
            figures += plot.save(plot.scale_map(mapped), options.out / "figures" / "scales")
    seconds = time.perf_counter() - started
    if options.json:
        show(_record(options, result, seconds))
    else:
        print(_text(options, result, figures))
        print(f"time      {seconds:.0f} s with {_hands(options, workers)}")
    failed = any(point.estimate.verdict.status == "fail" for point in result.points)
    return 1 if options.strict and (failed or result.skipped) else 0


def _map_scales(
    options: "Options", blueprint: Blueprint, result: Trajectory, workers: int
) -> ScaleMap:
    """Scale curves of the same checkpoints at the same nβ, each in a process of one thread."""
    s = result.settings
    places = options.checkpoints
    given = {
        name: getattr(s, name)
        for name in ("n_beta", "chains", "precision", "budget", "batch_size", "behavioural",
                     "control_variate", "seed", "only")
    }  # fmt: skip
    context = multiprocessing.get_context("spawn")
    with (
        nullcontext() if workers == 1
        else ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool,
        Bar(f"{result.name}, scales") as report,
    ):  # fmt: skip
        done = itertools.count(1)
        return scale_map(
            blueprint,
            places[0] if len(places) == 1 else list(places),
            out=options.out,
            executor=pool,
            step_from=options.step_from,
            entry=options.entry,
            drop=options.drop,
            progress=lambda *_: report("scales", next(done), len(result.points)),
            **given,
        )


def _hands(options: "Options", workers: int) -> str:
    if options.submit is not None:
        return "jobs waited for"
    return f"{workers} process{'es' if workers > 1 else ''}"


def _counts(result: Trajectory) -> dict[str, int]:
    counts = dict.fromkeys(("ok", "warn", "fail"), 0)
    for point in result.points:
        counts[point.estimate.verdict.status] += 1
    return counts


def _text(options: "Options", result: Trajectory, figures: "list[Path]") -> str:
    """Say in words what was found, and where it lies."""
    points, steps = result.points, result.steps
    counts = ", ".join(f"{count} {status}" for status, count in _counts(result).items())
    lines = [
        f"{result.name}: {len(points)} checkpoints, steps {steps[0]:,.0f} … {steps[-1]:,.0f}, "
        f"{points[0].estimate.dimension:,} parameters",
        *("  " + line for line in str(result.settings).splitlines()),
        f"LLC       {_change(result, 'llc', 'mcse')}",
        f"null      {_change(result, 'null', 'null_se')}",
        f"verdicts  {counts}",
    ]
    lines += _steep(result)
    reasons: dict[str, list[Point]] = {}
    for point in points:
        for reason in point.estimate.verdict.reasons:
            reasons.setdefault(reason.name, []).append(point)
    for name, where in sorted(reasons.items(), key=lambda item: -len(item[1])):
        verdict = where[-1].estimate.verdict
        sentence = next(
            s for r, s in zip(verdict.reasons, verdict.sentences, strict=True) if r.name == name
        )
        last = "" if len(where) == 1 else " (the last)"
        lines.append(f"  ! {name} at {_steps([point.step for point in where])}{last}: {sentence}")
    skipped = list(result.skipped.items())
    if skipped:
        lines.append(f"skipped   {len(skipped)}")
        lines += [f"  ! step {step}: {why}" for step, why in skipped[:SHOWN]]
        if len(skipped) > SHOWN:
            lines.append(f"  ! and at {_steps([step for step, _ in skipped[SHOWN:]])}")
    lines.append(f"table     {options.out / 'trajectory.csv'}")
    lines.append("figures   " + ", ".join(map(str, figures)))
    return "\n".join(lines)


def _steep(result: Trajectory) -> list[str]:
    """Numbers that are right may still be some of many: which they are, γ decides."""
    estimates = [point.estimate for point in result.points]
    shares = [steepness(e.llc, e.slope_gamma, e.slope_gamma_se) for e in estimates]
    share = float(np.median(shares))
    if share < MOST_STEEP:
        return []
    return [
        f"scale     the LLC changes by {share:.0%} (median) an e-fold of gamma: compare only "
        "numbers of this gamma"
    ]


def _change(result: Trajectory, name: str, error: str) -> str:
    """First, extremes and last of a column, with errors."""
    values, errors = result.column(name), result.column(error)
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return "not measured"
    low, high = (int(known[pick(values[known])]) for pick in (np.argmin, np.argmax))

    def at(position: int) -> str:
        number, spread = rounded(values[position], errors[position])
        return f"{number} ± {spread} at step {result.steps[position]:,.0f}"

    first, last = int(known[0]), int(known[-1])
    middle = [f"highest {at(high)}"] if high not in (first, last) else []
    middle += [f"lowest {at(low)}"] if low not in (first, last) else []
    return "; ".join([at(first), *middle, at(last)] if last != first else [at(first)])


def _steps(steps: list[int]) -> str:
    count = len(steps) if len(steps) <= SHOWN + 1 else SHOWN
    shown = ", ".join(str(step) for step in steps[:count])
    more = f" and {len(steps) - count} more" if len(steps) > count else ""
    return f"step{'s' if len(steps) > 1 else ''} {shown}{more}"


def _record(options: "Options", result: Trajectory, seconds: float) -> dict[str, Any]:
    points = []
    for point in result.points:
        estimate = point.estimate.to_dict()
        del estimate["settings"]
        numbers = {name: _number(value) for name, value in point.metadata.items()}
        points.append({"step": point.step, **estimate, "readings": numbers})
    return {
        "out": str(options.out),
        "task": result.name,
        "settings": result.settings.to_dict(),
        "verdicts": _counts(result),
        "points": points,
        "skipped": {str(step): why for step, why in result.skipped.items()},
        "seconds": seconds,
    }


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
