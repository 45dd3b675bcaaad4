"""Barriers and similarities between all pairs of some checkpoints of a training run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llc.errors import InputError
from llc.isolation import undisturbed
from llc.task import Task
from llc.trajectory.basins.alignment import Alignment
from llc.trajectory.basins.curves import BENDS, BUDGET, check_curve
from llc.trajectory.basins.kept import Pieces
from llc.trajectory.basins.lines import POINTS, check_points
from llc.trajectory.basins.pairs import Pairs
from llc.trajectory.basins.result import Basins
from llc.trajectory.basins.shelf import Shelf
from llc.trajectory.basins.similarities import EXAMPLES, Similarity, check_examples, compare
from llc.trajectory.fingerprints import fingerprint_task
from llc.trajectory.given import given_items
from llc.trajectory.sources import Item, Source

__all__ = ["COUNT", "basins", "picked"]

COUNT = 12
Progress = Callable[[int, int], None]


def basins(
    task: Task,
    checkpoints: Source,
    *,
    count: int = COUNT,
    steps: Sequence[int] | None = None,
    step_from: str | None = None,
    align: bool = True,
    curves: bool = False,
    layers: Sequence[str] | None = None,
    data: Any = None,
    out: str | Path | None = None,
    points: int = POINTS,
    bends: int = BENDS,
    budget: int = BUDGET,
    batch_size: int | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
    entry: str | None = None,
    drop: str | Sequence[str] = (),
) -> Basins:
    """Ask of a training run which of its checkpoints lie in one basin.

    Between every pair: the loss barrier along the straight line (`llc.barrier`), the same after
    the earlier one is aligned to the later by the symmetries of the architecture, and how alike
    the representations are (`llc.similarity`). With ``curves`` also the barrier along an optimised
    curve (`llc.trajectory.basins.curve`), between neighbours and to the last checkpoint only,
    since each costs ``budget`` gradients. The rest costs ``points`` passes over the data a pair
    and kind: of much data, give a part as ``data``.

    Args:
        task: the model (its own weights do not matter), data and loss.
        checkpoints: as for `llc.trace`, but of known length.
        count: how many of them: evenly spaced in their order, first and last among them.
        steps: these instead.
        step_from: as for `llc.trace`.
        align: align too, where symmetries are known; they are the task's, else what can be found.
        curves: measure along curves too.
        layers: as for `llc.similarity`.
        data: evaluate and compare on these instead of the task's own, for instance held-out data.
        out: a run folder: each finished pair is kept in its ``basins/``, and reused where weights,
            task, data and settings agree, so that an interrupted call goes on where it was.
        points: of each path.
        bends: of each curve.
        budget: gradients of each curve.
        batch_size: of these gradients; all up to 4096 examples, else 512, if None.
        examples: for similarities.
        seed: of curves and of the draw of examples.
        device: where to compute; None keeps the model's own.
        progress: called with (pieces of work done, in all).
        entry: which state dict to read from files that hold several, as for `llc.load_weights`.
        drop: patterns of names to leave out of every checkpoint, as for `llc.load_weights`.

    Raises:
        InputError: fewer than two checkpoints that can be used, a step that is not there, no such
            layer, or a number out of range.
    """
    check_points(points)
    check_curve(bends, budget, batch_size)
    check_examples(examples)
    items = picked(list(given_items(task, checkpoints, entry, drop, step_from)), count, steps)
    with undisturbed():
        shelf = Shelf(task, items, data, device)
        land, task = shelf.land, shelf.land.task
        pieces = Pieces(None if out is None else Path(out), fingerprint_task(task))
        alignment = Alignment.of(task) if align else None
        notes = [] if alignment is None or alignment.symmetries else [alignment.words]
        usable = alignment if alignment is not None and alignment.symmetries else None
        pairs = Pairs(shelf, pieces, points, (bends, budget, batch_size, seed))
        work = _work(len(shelf.items), usable is not None, curves)
        tell = _Teller(progress, len(work) + (task.data is not None))
        for kind, i, j in work:
            pairs.measure(kind, i, j, usable)
            tell()
        alike, why = _alike(task, shelf, pieces, layers, examples, seed, device)
        notes += [] if why is None else [why]
        tell()
    found: dict[str, Any] = {} if alike is None else {
        "cka": alike.cka, "procrustes": alike.procrustes, "hidden": alike.hidden,
    }  # fmt: skip
    settings = {
        "data": "own" if data is None else "given",
        "points": points, "parameters": land.dimension, "seed": seed,
        "symmetries": None if usable is None else usable.words,
        "curves": {"bends": bends, "budget": budget, "batch_size": batch_size} if curves else None,
        "examples": 0 if alike is None else alike.examples,
    }  # fmt: skip
    return Basins(
        name=task.label, steps=tuple(item.step for item in shelf.items), **pairs.matrices(),
        **found, settings=settings, notes=tuple(notes), skipped=shelf.skipped,
    )  # fmt: skip


def picked(items: Sequence[Item], count: int, steps: Sequence[int] | None) -> list[Item]:
    """Choose checkpoints: those of given steps, or evenly spaced ones, first and last included.

    Raises:
        InputError: fewer than two, or a step that is not there.
    """
    if steps is None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise InputError(f"count is {count!r}, expected a whole number of at least 2")
        if len(items) < 2:
            raise InputError(f"{len(items)} checkpoint given, expected at least 2 to compare")
        places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
        return [items[place] for place in places]
    known = {item.step: item for item in items}
    for step in steps:
        if step not in known:
            near = min(known, key=lambda other: abs(other - step), default=None)
            raise InputError(
                f"steps holds {step}, which no checkpoint is of; the nearest is {near}"
            )
    if len(set(steps)) < 2:
        raise InputError(f"steps holds {len(set(steps))} step, expected at least 2 to compare")
    return [known[step] for step in sorted(set(steps))]


def _work(count: int, aligned: bool, curves: bool) -> list[tuple[str, int, int]]:
    """List what is to be done, pair by pair, so that few weights have to be held at a time."""
    found = []
    for j in range(1, count):
        for i in range(j):
            found.append(("straight", i, j))
            if aligned:
                found.append(("aligned", i, j))
            if curves and (i == j - 1 or j == count - 1):
                found.append(("curve", i, j))
    return found


def _alike(
    task: Task,
    shelf: Shelf,
    pieces: Pieces,
    layers: Sequence[str] | None,
    examples: int,
    seed: int,
    device: str | None,
) -> tuple[Similarity | None, str | None]:
    """Compare representations, or say why that cannot be."""
    if task.data is None:
        if layers is not None:
            raise InputError("layers are given, but a potential has no examples: drop layers")
        return None, "no similarities: a potential has no examples"
    named = None if layers is None else list(layers)
    what = {
        "kind": "similarity", "weights": shelf.marks, "layers": named, "examples": examples,
        "seed": seed,
    }  # fmt: skip

    def make() -> dict[str, Any]:
        found = compare(task, shelf.readers(), named, examples, seed, device)
        matrices = {"cka": found.cka, "procrustes": found.procrustes}
        lists = {k: {n: m.tolist() for n, m in v.items()} for k, v in matrices.items()}
        return {**lists, "examples": found.examples, "left_out": dict(found.left_out)}

    try:
        kept = pieces.get(what, make)
    except InputError as error:
        # Named layers were asked for; of those that nobody named, barriers are no less true.
        if layers is not None:
            raise
        return None, f"no similarities: {error}"
    for name in ("cka", "procrustes"):
        kept[name] = {layer: np.array(matrix) for layer, matrix in kept[name].items()}
    found = Similarity(**kept)
    left = [f"layer {name} left out: {why}" for name, why in found.left_out.items()]
    return found, "; ".join(left) or None


class _Teller:
    """Tells of work done."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def __call__(self) -> None:
        self._done += 1
        if self._progress is not None and self._done <= self._total:
            self._progress(self._done, self._total)
