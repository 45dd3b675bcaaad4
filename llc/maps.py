"""Effective dimension over training and scale: a scale curve at every checkpoint, one grid of γ."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError
from llc.files import write_whole
from llc.isolation import undisturbed
from llc.parts import as_strings
from llc.scale import ScaleCurve, default_gammas, scale_curve
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task
from llc.trajectory.fingerprints import fingerprint_task, fingerprint_weights
from llc.trajectory.given import given_items
from llc.trajectory.sameness import Blueprint, Unlike, explained, refuse_kept
from llc.trajectory.sources import Item, Source

__all__ = ["ScaleMap", "scale_map"]

FOLDER = "scales"


@dataclass(frozen=True)
class ScaleMap:
    """Scale curves in the order of training steps.

    Attributes:
        name: of the task.
        steps: training steps, rising.
        curves: one a step, all on the same γ as far as they got.
        skipped: step → sentence, for checkpoints that could not be measured.
    """

    name: str
    steps: tuple[int, ...]
    curves: tuple[ScaleCurve, ...]
    skipped: Mapping[int, str] = field(default_factory=dict)

    @property
    def gammas(self) -> Array:
        """Every γ that was asked for, largest first."""
        return np.array(sorted({g for curve in self.curves for g in curve.asked}, reverse=True))

    def grid(self) -> Array:
        """Return λ̂ by γ and step, ``(gammas, steps)``; nan where not reached or called fail."""
        rows = {float(gamma): k for k, gamma in enumerate(self.gammas)}
        found = np.full((len(rows), len(self.steps)), np.nan)
        for column, curve in enumerate(self.curves):
            for point in curve.points:
                if point.verdict.status != "fail":
                    found[rows[float(point.settings.gamma or 0.0)], column] = point.llc
        return found

    @classmethod
    def load(cls, folder: str | Path) -> "ScaleMap":
        """Read the curves that `scale_map` left in a run folder.

        Raises:
            InputError: there are none.
        """
        place = Path(folder) / FOLDER
        files = sorted(place.glob("[0-9]*.json"), key=lambda path: int(path.stem))
        if not files:
            raise InputError(f"{folder} holds no scale curves: run rlct trace with --scales")
        curves = tuple(ScaleCurve.load(path) for path in files)
        return cls(curves[0].name, tuple(int(path.stem) for path in files), curves)


def scale_map(
    task: Task | Callable[[], Task],
    checkpoints: Source,
    *,
    gammas: Sequence[float] | None = None,
    out: str | Path | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, ScaleCurve | None], None] | None = None,
    step_from: str | None = None,
    entry: str | None = None,
    drop: str | Sequence[str] = (),
    **given: Any,
) -> ScaleMap:
    """Measure `llc.scale_curve` at every checkpoint of a training run.

    Args:
        task: the model (its own weights do not matter), data and loss; or a function that returns
            it, which processes call for themselves.
        checkpoints: as for `llc.trace`, but of known length.
        gammas: γ to measure at; the default of the middle checkpoint, for all, unless given.
        out: a run folder: curves are kept in its ``scales/``, and reused by the same call.
        executor: any ``concurrent.futures.Executor``; None computes here. Processes need a task
            that can be pickled, or a function that returns it.
        progress: called with (step, curve or None if skipped).
        step_from: as for `llc.trace`.
        entry: which state dict to read from files that hold several, as for `llc.load_weights`.
        drop: patterns of names to leave out of every checkpoint, as for `llc.load_weights`.
        **given: as for `llc.scale_curve`.

    Raises:
        InputError: no checkpoint, none that can be measured, a task that is not the same in every
            process, or what `llc.scale_curve` refuses.
    """
    blueprint = Blueprint.of(task)
    task = blueprint()
    items = list(given_items(task, checkpoints, entry, drop, step_from))
    if not items:
        raise InputError("checkpoints is empty: give at least one")
    if gammas is None:
        with undisturbed():
            middle = task.at(items[len(items) // 2].read()[0])
            behavioural = bool(given.get("behavioural", False))
            only = as_strings(given.get("only"))
            gammas = default_gammas(LossSurface(middle, behavioural=behavioural, only=only))
    given = {**given, "gammas": tuple(gammas)}
    if given.get("only") is None:
        given.pop("only", None)
    else:
        given["only"] = as_strings(given["only"])
    key = fingerprint_task(task) + json.dumps(given, sort_keys=True)
    place = None if out is None else Path(out) / FOLDER
    curves: dict[int, ScaleCurve] = {}
    skipped: dict[int, str] = {}
    try:
        for step, found in _measure_all(blueprint, items, given, key, place, executor):
            if isinstance(found, ScaleCurve):
                curves[step] = found
            else:
                skipped[step] = found
            if progress is not None:
                progress(step, curves.get(step))
    except Unlike as unlike:
        raise explained(unlike, blueprint) from None
    if not curves:
        step, why = next(iter(skipped.items()))
        raise InputError(f"no checkpoint could be measured; step {step}: {why}")
    steps = tuple(sorted(curves))
    return ScaleMap(task.label, steps, tuple(curves[step] for step in steps), skipped)


def _measure_all(
    blueprint: Blueprint,
    items: list[Item],
    given: dict[str, Any],
    key: str,
    place: Path | None,
    executor: Executor | None,
) -> Iterator[tuple[int, ScaleCurve | str]]:
    if executor is None:
        for item in items:
            yield item.step, _measure(blueprint, item, given, key, place)
        return
    futures: dict[Future[ScaleCurve | str], int] = {
        executor.submit(_measure, blueprint, item, given, key, place): item.step for item in items
    }
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def _measure(
    blueprint: Blueprint,
    item: Item,
    given: dict[str, Any],
    key: str,
    place: Path | None,
) -> ScaleCurve | str:
    """One checkpoint's curve, from its file if that fits; or why there is none."""
    try:
        weights, _ = item.read()
        mark = fingerprint_weights(weights, key, Settings())
        path = None if place is None else place / f"{item.step:07d}.json"
        if path is not None and _mark_of(path) == mark:
            return ScaleCurve.load(path)
        task = blueprint()
        at = task.at(weights)
        refuse_kept(task, at, blueprint.doubts)
        curve = scale_curve(at, **given)
        if path is not None:
            path.with_suffix(".fingerprint").unlink(missing_ok=True)
            curve.save(path)
            write_whole(path.with_suffix(".fingerprint"), mark.encode())
        return curve
    except InputError as error:
        return str(error)


def _mark_of(path: Path) -> str | None:
    try:
        return path.with_suffix(".fingerprint").read_text()
    except OSError:
        return None
