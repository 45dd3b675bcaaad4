"""Estimate every checkpoint of a training run with one set of settings."""

import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from llc.calibration import Resolved, fill, resolve_task
from llc.checkpoints import Checkpoint, find_checkpoints
from llc.errors import InputError
from llc.estimation import Estimate
from llc.estimator import estimate_stack, estimate_task
from llc.execution import Execution
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.store import RunFolder, fingerprint_task, fingerprint_weights
from llc.trajectory.trajectory import Point, Trajectory

__all__ = ["trace"]

Source = str | Path | Iterable[Checkpoint | tuple[int, Mapping[str, Tensor]]]
PILOTS = 3


@dataclass(frozen=True)
class _Job:
    """A checkpoint with its weights in hand."""

    step: int
    weights: Mapping[str, Tensor]
    metadata: Mapping[str, float]


def trace(
    task: Task,
    checkpoints: Source,
    *,
    out: str | Path | None = None,
    settings: Settings | None = None,
    executor: Executor | None = None,
    execution: Execution | None = None,
    stack: int = 1,
    progress: bool | Callable[[int, Estimate | None], None] | None = None,
    **given: Any,
) -> Trajectory:
    """Estimate the LLC at every checkpoint of a training run.

    One nβ, one γ and one chain seed serve all checkpoints, so that differences between them
    are differences of the checkpoints; step size and burn-in follow each checkpoint's own
    curvature. Where γ is not given it is chosen at three checkpoints and the most local kept.

    Args:
        task: the model (its own weights do not matter), data and loss.
        checkpoints: a folder, `Checkpoint` objects, or pairs of (step, state dict).
        out: a run folder; estimates found there with the same fingerprint of weights, data,
            loss and settings are reused, so that an interrupted trace goes on where it stopped.
        settings: as for `estimate`.
        executor: any ``concurrent.futures.Executor``; None computes here, one after another.
            A process pool needs a task that can be pickled.
        execution: device, compilation and memory limit; none of it decides a result.
        stack: checkpoints that share a run, their chains side by side; more than one needs
            ``step_size``, ``burn_in`` and ``draws`` given, and pays for small batches on a CPU
            and for small models on a GPU.
        progress: True for a bar, or a function called with (step, estimate or None if skipped).
        **given: single settings, instead of ``settings``.

    Returns:
        The trajectory. Checkpoints that cannot be estimated are in ``skipped``, with the reason.

    Raises:
        InputError: no checkpoint, none that can be estimated, or a stack without the settings it
            needs.
    """
    jobs = _jobs(checkpoints)
    if not jobs:
        raise InputError("checkpoints is empty: give at least one")
    folder = None if out is None else RunFolder(out)
    key = fingerprint_task(task)
    wanted = replace(settings or Settings(), **given)
    _check_stack(stack, wanted)
    chosen = _resolve_all(task, key, jobs, wanted, folder, execution)
    if folder is not None:
        folder.describe(task, chosen, [job.step for job in jobs])
    marks = {job.step: fingerprint_weights(job.weights, key, chosen) for job in jobs}
    done: dict[int, Estimate] = {}
    if folder is not None:
        kept = {step: folder.find(step, mark) for step, mark in marks.items()}
        done = {step: found for step, found in kept.items() if found is not None}
    skipped: dict[int, str] = {}
    with _Watch(task.label, len(jobs), progress) as watch:
        for step, found in done.items():
            watch(step, found)
        todo = [job for job in jobs if job.step not in done]
        for job, result in _compute(task, chosen, _groups(todo, stack), executor, execution):
            if isinstance(result, Estimate):
                done[job.step] = result
                if folder is not None:
                    folder.keep(job.step, marks[job.step], result, job.metadata)
            else:
                skipped[job.step] = str(result)
                if folder is not None:
                    folder.skip(job.step, str(result))
            watch(job.step, done.get(job.step))
    if not done:
        raise InputError(f"no checkpoint could be estimated; step {jobs[0].step}: "
                         f"{skipped[jobs[0].step]}")  # fmt: skip
    points = [Point(job.step, done[job.step], job.metadata) for job in jobs if job.step in done]
    trajectory = Trajectory(task.label, chosen, tuple(points), skipped)
    if folder is not None:
        trajectory.to_csv(folder.folder / "trajectory.csv")
    return trajectory


def _jobs(checkpoints: Source) -> list[_Job]:
    if isinstance(checkpoints, str | Path):
        checkpoints = find_checkpoints(checkpoints)
    jobs = {}
    for item in checkpoints:
        if isinstance(item, Checkpoint):
            job = _Job(item.step, item.weights(), item.metadata)
        else:
            step, weights = item
            job = _Job(int(step), weights, {})
        if job.step in jobs:
            raise InputError(f"checkpoints hold step {job.step} twice: keep one of them")
        jobs[job.step] = job
    return [jobs[step] for step in sorted(jobs)]


def _resolve_all(
    task: Task,
    key: str,
    jobs: list[_Job],
    wanted: Settings,
    folder: RunFolder | None,
    execution: Execution | None,
) -> Settings:
    """One nβ and γ for all: reused from the folder if it asks for the same, else chosen."""
    if wanted.gamma is not None:
        return fill(wanted, task.size)
    kept = folder.settings() if folder is not None else None
    if kept is not None and folder is not None and folder.task_fingerprint() == key:
        # What was asked then is what is left when γ, and all that was filled in, is put back.
        again = replace(fill(wanted, task.size), gamma=kept.gamma)
        if again == kept:
            return kept
    picks = sorted({round(i * (len(jobs) - 1) / (PILOTS - 1)) for i in range(PILOTS)})
    choices: list[Resolved] = []
    problems: list[InputError] = []
    # Others stand in, latest first, only where none of the three can be estimated.
    for i in [*picks, *(j for j in reversed(range(len(jobs))) if j not in picks)]:
        if choices and i not in picks:
            break
        try:
            choices.append(resolve_task(task.at(jobs[i].weights), wanted, execution))
        except InputError as error:
            problems.append(error)
    if not choices:
        raise problems[0]
    # A checkpoint that is no minimum at any γ has no say: no γ would make it one.
    voters = [choice.settings for choice in choices if choice.sound]
    voters = voters or [choice.settings for choice in choices]
    most_local = max(voters, key=lambda settings: settings.gamma or 0.0)
    why = f"largest of {len(voters)} checkpoints'; {most_local.reasons['gamma']}"
    return replace(most_local, reasons={**most_local.reasons, "gamma": why})


def _check_stack(stack: int, settings: Settings) -> None:
    if stack != int(stack) or stack < 1:
        raise InputError(f"stack is {stack!r}, expected a whole number of at least 1")
    missing = [n for n in ("step_size", "burn_in", "draws") if getattr(settings, n) is None]
    if stack > 1 and missing:
        raise InputError(
            f"stack is {stack}, which needs step_size, burn_in and draws, but {missing[0]} is left "
            "open: give it, or leave stack out"
        )


def _groups(jobs: list[_Job], size: int) -> list[list[_Job]]:
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def _estimate_group(
    task: Task,
    weights: list[Mapping[str, Tensor]],
    settings: Settings,
    execution: Execution | None,
) -> list[Estimate | InputError]:
    """Estimate checkpoints in one run, or one by one where one of them stands in the way."""
    if len(weights) > 1:
        try:
            tasks = [task.at(each) for each in weights]
            return [*estimate_stack(tasks, settings, execution=execution)]
        except InputError:
            pass
    results: list[Estimate | InputError] = []
    for each in weights:
        try:
            results.append(estimate_task(task.at(each), settings, execution=execution))
        except InputError as error:
            results.append(error)
    return results


def _compute(
    task: Task,
    settings: Settings,
    groups: list[list[_Job]],
    executor: Executor | None,
    execution: Execution | None,
) -> Iterable[tuple[_Job, Estimate | InputError]]:
    """Yield results as they finish."""
    if executor is None:
        for group in groups:
            weights = [job.weights for job in group]
            yield from zip(group, _estimate_group(task, weights, settings, execution), strict=True)
        return
    futures: dict[Future[list[Estimate | InputError]], list[_Job]] = {}
    for group in groups:
        weights = [job.weights for job in group]
        futures[executor.submit(_estimate_group, task, weights, settings, execution)] = group
    try:
        for future in as_completed(futures):
            yield from zip(futures[future], future.result(), strict=True)
    finally:
        for future in futures:
            future.cancel()


class _Watch:
    """A bar over checkpoints, or the caller's own function."""

    def __init__(
        self, name: str, total: int, progress: bool | Callable[[int, Estimate | None], None] | None
    ) -> None:
        from tqdm import tqdm

        self._call = progress if callable(progress) else None
        shown = progress is True and sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=name, unit="checkpoint", disable=not shown)

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, step: int, estimate: Estimate | None) -> None:
        if self._call is not None:
            self._call(step, estimate)
        self._bar.update()
        if estimate is not None:
            self._bar.set_postfix_str(f"step {step}, LLC {estimate.llc:.4g}")
