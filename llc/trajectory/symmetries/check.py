"""Move a checkpoint by its known symmetries and look what changes."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from llc.calibration import fill
from llc.errors import InputError
from llc.estimation import Estimate
from llc.estimation.precise import precise_objective
from llc.estimator import estimate_task
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.objective import CHUNK, Objective
from llc.params import stream_seed
from llc.private import private_copy
from llc.progress import Bar
from llc.settings import Settings
from llc.symmetry import Part, Symmetry
from llc.symmetry.base import FACTOR
from llc.task import Task
from llc.trajectory.symmetries.count import MOST, count_directions, symmetries_of
from llc.trajectory.symmetries.result import Invariance, SymmetryCheck

__all__ = ["check_symmetries"]

DOUBLE, SINGLE = 1e-9, 1e-3
MOST_SEED = 2**31


def check_symmetries(
    task: Task,
    symmetries: Sequence[Symmetry] | None = None,
    *,
    settings: Settings | None = None,
    strength: float = FACTOR,
    seed: int = 0,
    sample: bool = True,
    count: bool = True,
    most: int = MOST,
    execution: Execution | None = None,
    progress: bool | Callable[[str], None] | None = None,
) -> SymmetryCheck:
    """Hold known symmetries of a task against outputs, loss, λ̂ and flat directions.

    Every kind of move is made once, at random. Outputs and loss are compared in double precision
    where the model runs in it. λ̂ is then estimated at the moved weights with the same nβ and γ, a
    step size of its own, and noise that is independent of the estimate before. A move that keeps
    distances (permutation, rotation, plain shift) carries the localised posterior along, and λ̂
    must agree within error. A rescaling or a gauge meets the isotropic prior at another angle: as
    if γ were changed, direction by direction, by factors between e^−2s and e^2s, s the move's
    stretch; λ is the same, λ̂ need not be, and the check says what dλ̂/d ln γ lets it change by.

    Args:
        task: the model at w*, data and loss.
        symmetries: the task's own unless given, or else those found in its model.
        settings: as for `llc.estimate`; ``behavioural`` where w* is no minimum.
        strength: of continuous moves, see `llc.symmetry.Symmetry.random`; ln 2 makes factors from
            a half to two.
        seed: of the moves; the seeds of the estimates follow from it and the settings' own.
        sample: False leaves the estimates out.
        count: False leaves `count_directions` out.
        most: parameters up to which the rank of J is measured.
        execution: where and how to compute.
        progress: True for a bar, or a function that is told what is being done.

    Returns:
        The check; ``str`` of it is a table.

    Raises:
        InputError: no symmetries, one that does not fit the weights, or whatever `llc.estimate`
            refuses.
    """
    if isinstance(strength, bool) or not 0 < strength < 20:
        raise InputError(f"strength is {strength!r}, expected a number between 0 and 20")
    started = time.perf_counter()
    found = symmetries_of(task, symmetries)
    say = progress if callable(progress) else _silent
    asked = settings or Settings()
    if sample:
        fill(asked, task.size)  # refuses what does not fit the data
    weights = task.model.state_dict()
    with undisturbed():
        look = _Look(task, execution)
        moves = [(s, part) for s in found for part in s.parts(weights)]
        rows = [
            _compared(look, symmetry, part, strength, _seed(seed, "move", i))
            for i, (symmetry, part) in enumerate(moves)
        ]
        before = None
        if sample:
            before, rows = _sampled(
                task, moves, rows, asked, strength, seed, execution, say, progress is True
            )
        say("counting directions")
        device = None if execution is None else execution.device
        counted = count_directions(task, found, most=most, device=device) if count else None
    known: dict[str, Any] = {}
    if before is not None:
        known = {
            "llc": before.llc, "mcse": before.mcse, "status": before.verdict.status,
            "slope_gamma": before.slope_gamma, "slope_gamma_se": before.slope_gamma_se,
            "n_beta": before.settings.n_beta, "gamma": before.settings.gamma,
        }  # fmt: skip
    return SymmetryCheck(
        task.label, tuple(rows), strength, directions=counted,
        seconds=time.perf_counter() - started, **known,
    )  # fmt: skip


class _Look:
    """Outputs and loss at other weights, in double precision where the model runs in it."""

    def __init__(self, task: Task, execution: Execution | None) -> None:
        device = None if execution is None else execution.device
        objective, _ = precise_objective(task, False, Execution(device, "off"))
        double = objective.layout.dtype == torch.float64
        self.tolerance = DOUBLE if double else SINGLE
        self.task = task
        if double:
            data = None if task.data is None else tree_map(_widened, task.data)
            self.task = replace(task, model=private_copy(task.model).double(), data=data)
        self.weights = self.task.model.state_dict()
        self.scale = objective.chance or 1.0
        self._device = device
        self.outputs, self.loss = self.at(self.weights)

    @torch.no_grad()
    def at(self, weights: dict[str, Tensor]) -> tuple[Tensor | None, float]:
        """Return outputs over all data, where the task has any, and the mean loss."""
        objective = Objective(self.task.at(weights), device=self._device)
        if objective.module.loss is None:
            return None, objective.baseline.mean
        inputs, model = objective.data[0], objective.module.model
        parts = [model(inputs[i : i + CHUNK]).cpu() for i in range(0, len(inputs), CHUNK)]
        return torch.cat(parts), objective.baseline.mean


def _widened(leaf: Tensor) -> Tensor:
    return leaf.double() if leaf.is_floating_point() else leaf


def _compared(
    look: _Look, symmetry: Symmetry, part: Part, strength: float, seed: int
) -> Invariance:
    moved, stretch = part.move(look.weights, torch.Generator().manual_seed(seed), strength)
    outputs, loss = look.at(moved)
    change = math.nan
    if outputs is not None and look.outputs is not None:
        size = float(look.outputs.abs().max()) or 1.0
        change = float((outputs - look.outputs).abs().max()) / size
    return Invariance(
        symmetry.name, part.label, symmetry.preserves, part.isometry, part.discrete,
        part.dimension, stretch, change, abs(loss - look.loss) / look.scale, look.tolerance,
    )  # fmt: skip


def _sampled(
    task: Task,
    moves: Sequence[tuple[Symmetry, Part]],
    rows: Sequence[Invariance],
    asked: Settings,
    strength: float,
    seed: int,
    execution: Execution | None,
    say: Callable[[str], None],
    bar: bool,
) -> tuple[Estimate, list[Invariance]]:
    """Estimate at w*, and after every move that leaves the loss as it is."""

    def estimate(at: Task, settings: Settings, what: str) -> Estimate:
        say(what)
        if not bar:
            return estimate_task(at, settings, execution=execution)
        with Bar(what) as report:
            return estimate_task(at, settings, execution=execution, progress=report)

    before = estimate(task, asked, "before")
    law = replace(asked, n_beta=before.settings.n_beta, gamma=before.settings.gamma)
    weights, found = task.model.state_dict(), []
    for i, ((_, part), row) in enumerate(zip(moves, rows, strict=True)):
        if not row.holds:
            found.append(row)
            continue
        generator = torch.Generator().manual_seed(_seed(seed, "move", i))
        moved = part.move(weights, generator, strength).weights
        own = replace(law, seed=_seed(asked.seed, f"after {seed}", i))
        after = estimate(task.at(moved), own, f"{row.symmetry}: {row.part}")
        found.append(
            replace(
                row,
                llc=after.llc,
                mcse=after.mcse,
                status=after.verdict.status,
                z=(after.llc - before.llc) / math.hypot(after.mcse, before.mcse),
                price=abs(before.slope_gamma) * 2 * row.stretch,
            )
        )
    return before, found


def _seed(seed: int, purpose: str, number: int) -> int:
    return stream_seed(seed, f"symmetry {purpose}", number) % MOST_SEED


def _silent(_: str) -> None:
    pass
