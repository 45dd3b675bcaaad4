"""Short runs on a grid of step size × γ × nβ, going on where they stopped."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from llc.calibration import Resolved, fill, freeze_task
from llc.errors import InputError, some
from llc.estimation import Estimate
from llc.estimator import estimate_task
from llc.execution import Execution
from llc.files import read_json, write_whole
from llc.sampling.chains import Report
from llc.settings import Settings
from llc.sweeps.grid import AXES, Cell, Sweep, cell_from_json, cell_to_json
from llc.task import Task
from llc.trajectory.fingerprints import fingerprint_task, fingerprint_weights

__all__ = ["check_grid", "choose", "sweep", "with_sampler"]

HALF_DECADES = (-2, -1, 0, 1, 2)
FEWER_HALF_DECADES = (-1, 0, 1)
CELL_PRECISION = 0.1
STEPS_PER_CELL = 2000
SAMPLER = "sgld"


def sweep(
    task: Task,
    step_sizes: Sequence[float] | None = None,
    gammas: Sequence[float] | None = None,
    n_betas: Sequence[float] | None = None,
    *,
    settings: Settings | None = None,
    out: str | Path | None = None,
    cell_budget: int | None = None,
    execution: Execution | None = None,
    progress: Callable[[Cell, int, int], None] | None = None,
    **given: Any,
) -> Sweep:
    """Estimate λ̂ = nβ(E[L] − L(w*)) by short runs on a grid of step size × γ × nβ.

    An axis left out holds half-decades around the chosen value: c·10^(k/2) with k = −2 … 2 for step
    size and γ, k = −1 … 1 for nβ; what is chosen is what `llc.calibrate` freezes. All cells share
    seed, noise and batches. A cell runs until ±10 % (or ``precision``, if coarser) or until its
    budget ends, which its verdict then says; ``draws`` and ``burn_in``, if given, are its length.

    Args:
        task: model at w*, data, loss.
        step_sizes: ε of the first-order samplers, h of the others.
        gammas: γ.
        n_betas: nβ.
        settings: choices already made; sampler ``"auto"`` stands for plain ``"sgld"`` here.
        out: a folder; finished cells found there, with the same weights, data, loss and settings,
            are reused, so that an interrupted sweep goes on where it stopped.
        cell_budget: most gradient evaluations of a cell, all chains together; 2000 a chain unless
            given.
        execution: device, compilation and memory limit; none of it decides a result.
        progress: called with (cell, cells done, cells in all).
        **given: single settings, instead of ``settings``.

    Returns:
        Every cell, failed ones included.

    Raises:
        InputError: an axis that is empty or holds what is no number above 0, or a task or a
            setting that cannot be used.
    """
    wanted = with_sampler(replace(settings or Settings(), **given))
    axes = check_grid(step_sizes, gammas, n_betas, cell_budget)
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"out is {folder}, a file; expected a folder, which may not exist yet")
    key = fingerprint_task(task)
    chosen = _chosen(task, wanted, axes, folder, execution)
    spans = (HALF_DECADES, HALF_DECADES, FEWER_HALF_DECADES)
    steps, strengths, sizes = (
        axis or tuple(getattr(chosen, name) * 10 ** (k / 2) for k in span)
        for name, axis, span in zip(AXES, axes, spans, strict=True)
    )
    dropped = ("draws", "burn_in", "precision", "budget")
    shared = replace(
        chosen,
        reasons={name: why for name, why in chosen.reasons.items() if name not in dropped},
        draws=wanted.draws,
        burn_in=wanted.burn_in,
        precision=max(CELL_PRECISION, wanted.precision),
        budget=cell_budget or STEPS_PER_CELL * wanted.chains,
    )
    grid = [(s, g, n) for n, s, g in product(sizes, steps, strengths)]
    weights = task.model.state_dict()
    cells: list[Cell] = []
    reused = 0
    for values in grid:
        at = replace(shared, step_size=values[0], gamma=values[1], n_beta=values[2])
        path = None
        if folder is not None:
            path = folder / "cells" / f"{fingerprint_weights(weights, key, at)[:32]}.json"
        cell = _find(path)
        if cell is None:
            cell = _cell(estimate_task(task, at, execution=execution), values)
            if path is not None:
                content = json.dumps(cell_to_json(cell), indent=1, allow_nan=False)
                write_whole(path, content.encode())
        else:
            reused += 1
        cells.append(cell)
        if progress is not None:
            progress(cell, len(cells), len(grid))
    return Sweep(task.label, shared, steps, strengths, sizes, tuple(cells), reused)


def with_sampler(settings: Settings) -> Settings:
    """Put plain SGLD, which most sweeps are made with, in the place of ``"auto"``."""
    if settings.sampler != "auto":
        return settings
    reasons = {**settings.reasons, "sampler": "the sampler most sweeps are made with"}
    return replace(settings, sampler=SAMPLER, reasons=reasons)


def check_grid(
    step_sizes: Sequence[float] | None,
    gammas: Sequence[float] | None,
    n_betas: Sequence[float] | None,
    cell_budget: int | None,
) -> list[tuple[float, ...] | None]:
    """Return the axes of a grid in ascending order; as `sweep`, which spends nothing before it.

    Raises:
        InputError: an axis is empty or holds what is no number above 0, or the budget is none.
    """
    given = zip(AXES, (step_sizes, gammas, n_betas), strict=True)
    axes = [_axis(name, values) for name, values in given]
    _check_budget(cell_budget)
    return axes


def _axis(name: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
    """Check an axis and put it in ascending order."""
    if values is None:
        return None
    numbers = list(values)
    if not numbers:
        raise InputError(f"{name}s is empty, expected numbers above 0: give some, or leave it out")
    for value in numbers:
        # Refuses what is no number; a step of 0 does not move, and has no place on the grid.
        Settings.from_dict({name: value})
        if value == 0:
            raise InputError(f"{name}s holds {value!r}, expected numbers above 0")
    if len(set(map(float, numbers))) < len(numbers):
        raise InputError(f"{name}s holds a number twice, expected each once: {some(numbers, 6)}")
    return tuple(sorted(map(float, numbers)))


def _check_budget(cell_budget: int | None) -> None:
    whole = isinstance(cell_budget, int) and not isinstance(cell_budget, bool)
    if cell_budget is not None and not (whole and cell_budget >= 1):
        raise InputError(f"cell_budget is {cell_budget!r}, expected a whole number of at least 1")


def _chosen(
    task: Task,
    wanted: Settings,
    axes: Sequence[tuple[float, ...] | None],
    folder: Path | None,
    execution: Execution | None,
) -> Settings:
    """Choose what stands in the grid's middle, or find what was chosen for this folder before."""
    open_axes = [n for n, axis in zip(AXES, axes, strict=True) if axis is None]
    if all(getattr(wanted, name) is not None for name in open_axes):
        # Nothing to choose; but a potential's nβ may stand on its axis alone.
        sizes = axes[2]
        spare = wanted.n_beta is None and sizes is not None and task.size is None
        filled = fill(replace(wanted, n_beta=sizes[0]) if spare and sizes else wanted, task.size)
        return replace(filled, n_beta=None) if spare else filled
    return choose(task, wanted, folder, execution).settings


def choose(
    task: Task,
    wanted: Settings,
    out: Path | None = None,
    execution: Execution | None = None,
    report: Report | None = None,
) -> Resolved:
    """Freeze settings as `llc.calibrate`, or find what was frozen for this folder before.

    A pilot run again could differ in its last bits, elsewhere or on more threads, and with it
    every cell around it.
    """
    path = None if out is None else out / "calibration.json"
    key = fingerprint_task(task)
    mark = fingerprint_weights(task.model.state_dict(), key, wanted)
    if path is not None:
        try:
            record = read_json(path)
            if record["fingerprint"] == mark:
                settings = Settings.from_dict(record["settings"])
                return Resolved(settings, record["evaluations"], record["sound"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
    found = freeze_task(task, wanted, execution, report)
    if path is not None:
        record = {"fingerprint": mark, **found._asdict(), "settings": found.settings.to_dict()}
        write_whole(path, json.dumps(record, indent=1).encode())
    return found


def _cell(estimate: Estimate, values: tuple[float, float, float]) -> Cell:
    return Cell(
        *values,
        estimate.llc,
        estimate.mcse,
        estimate.verdict.status,
        tuple(reason.name for reason in estimate.verdict.reasons),
        estimate.verdict.sentences,
        len(estimate.diverged),
        estimate.settings.chains,
        estimate.virial,
        estimate.gradient_evaluations,
        estimate.seconds,
    )


def _find(path: Path | None) -> Cell | None:
    """Read a finished cell; None where there is none, or where it cannot be read."""
    if path is None:
        return None
    try:
        return cell_from_json(read_json(path))
    except (OSError, ValueError, LookupError, TypeError):
        return None
