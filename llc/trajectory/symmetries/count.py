"""How many of the flat directions at w* are known symmetries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError
from llc.estimation.precise import precise_objective
from llc.estimation.sketch import outputs_sketch
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.objective import Objective
from llc.symmetry import Symmetry, find_symmetries
from llc.task import Task

__all__ = ["MOST", "Directions", "count_directions", "symmetries_of"]

MOST = 5000
KNOWN = 1e-9


@dataclass(frozen=True)
class Directions:
    """Dimensions of the known symmetries at w*, and of all directions flat at first order.

    Attributes:
        dimension: d, number of parameters.
        known: dimension of the span of all tangents of continuous symmetries.
        each: the same of each symmetry by itself; spans may overlap.
        rank: of J, the Jacobian of the outputs by the parameters; for cross-entropy less the mean
            over classes; None where it was not measured.
        smallest: smallest singular value of J that was counted, relative to the largest.
        largest_zero: largest that was not, relative to the largest; 0 where none was left.
        leak: largest ``|J·t|``, relative to the largest singular value, of unit vectors t in the
            span: rounding where the tangents are flat.
        dropped: tangents that move weights that are not sampled (frozen, or buffers).
    """

    dimension: int
    known: int
    each: Mapping[str, int]
    rank: int | None = None
    smallest: float = math.nan
    largest_zero: float = math.nan
    leak: float = math.nan
    dropped: int = 0

    @property
    def flat(self) -> int | None:
        """D − rank(J): directions in which the outputs do not change at first order."""
        return None if self.rank is None else self.dimension - self.rank

    def __str__(self) -> str:
        each = ", ".join(f"{name} {count}" for name, count in self.each.items() if count)
        lines = [f"known symmetries span {self.known} directions{f' ({each})' if each else ''}"]
        if self.flat is None:
            lines.append(f"d = {self.dimension:,}; rank(J) was not measured")
        else:
            rest = "; those are all of them" if self.flat == self.known else ""
            if self.flat > self.known:
                rest = f"; {self.flat - self.known} are of no symmetry declared"
            lines.append(
                f"d − rank(J) = {self.dimension:,} − {self.rank:,} = {self.flat} directions are "
                f"flat at first order{rest}"
            )
            lines.append(
                f"(singular values of J: {self.smallest:.1g} counted, {self.largest_zero:.1g} not)"
            )
            if self.leak > KNOWN:
                lines.append(
                    f"but J moves a declared direction by {self.leak:.1g}: one of them is none"
                )
        if self.dropped:
            lines.append(f"{self.dropped} tangents move weights that are not sampled: left out")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; nan becomes None."""
        values = {**asdict(self), "each": dict(self.each), "flat": self.flat}
        nan = {k: None for k, v in values.items() if isinstance(v, float) and math.isnan(v)}
        return values | nan

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Directions":
        """Read what `to_dict` returned."""
        read: dict[str, Any] = {k: v for k, v in values.items() if k != "flat"}
        for name in ("smallest", "largest_zero", "leak"):
            read[name] = math.nan if read[name] is None else read[name]
        return cls(**read)


@dataclass
class _Tangents:
    """Tangents of one symmetry over the sampled parameters, ``(k, D)``, each of unit length."""

    rows: Tensor
    dropped: int = 0
    rank: int = field(init=False)

    def __post_init__(self) -> None:
        self.rank = _rank(self.rows)


def count_directions(
    task: Task,
    symmetries: Sequence[Symmetry] | None = None,
    *,
    most: int = MOST,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Directions:
    """Count the directions of known symmetries at w*, and all directions flat at first order.

    Every continuous symmetry moves w* along an orbit of equal outputs, so that its tangents lie in
    the null space of J, the Jacobian of the outputs over all data by the parameters. What that null
    space holds beyond them is flat for another reason: data too few to see it, dead units, a
    singularity such as a zero singular value in a deep linear net. All in double precision where
    the model runs in it; J's rank from D + 32 random combinations of its rows, which costs as many
    backward passes and the singular values of a D × D matrix.

    Args:
        task: the model at w*, data and a loss of (outputs, targets).
        symmetries: the task's own unless given, or else those found in its model.
        most: parameters up to which the rank of J is measured.
        seed: of the random combinations.
        device: where to compute; the model's own unless given.

    Returns:
        The counts.

    Raises:
        InputError: no symmetries are given, or one does not fit the weights.
    """
    found = symmetries_of(task, symmetries)
    weights = task.model.state_dict()
    with undisturbed():
        objective, _ = precise_objective(task, False, Execution(device, "off"))
        names = [name.removeprefix("model.") for name in objective.layout.names]
        each = {}
        for symmetry in found:
            each[_unused(symmetry.name, each)] = _flat(symmetry, weights, names)
        rows = torch.cat([tangents.rows for tangents in each.values()])
        counts = {name: tangents.rank for name, tangents in each.items()}
        dropped = sum(tangents.dropped for tangents in each.values())
        span = _span(rows)
        size = objective.layout.total
        if size > most or objective.module.loss is None:
            return Directions(size, span.shape[1], counts, dropped=dropped)
        return _measured(objective, span, counts, dropped, seed)


def _measured(
    objective: Objective, span: Tensor, counts: dict[str, int], dropped: int, seed: int
) -> Directions:
    sketch = outputs_sketch(objective, seed)
    values = torch.linalg.svdvals(sketch)
    values = values / values[0].clamp_min(torch.finfo(values.dtype).tiny)
    rank = int((values > len(values) * torch.finfo(values.dtype).eps).sum())
    leak = 0.0
    if span.shape[1]:
        first = torch.linalg.matrix_norm(sketch, 2)
        leak = float((sketch @ span.to(sketch)).norm(dim=0).max() / first)
    zeros = float(values[rank]) if rank < len(values) else 0.0
    return Directions(
        objective.layout.total, span.shape[1], counts, rank, float(values[rank - 1]) if rank else 0,
        zeros, leak, dropped,
    )  # fmt: skip


def symmetries_of(task: Task, symmetries: Sequence[Symmetry] | None) -> tuple[Symmetry, ...]:
    """Return those given, else the task's own, else those found in its model.

    Raises:
        InputError: there are none.
    """
    found = task.symmetries if symmetries is None else symmetries
    if found is None:
        found = find_symmetries(task.model)
    if not found:
        raise InputError(
            "no symmetries are known of this task, and none can be read off its model: declare "
            "them as llc.Task(..., symmetries=[...]) from llc.symmetry.Units, Heads and Offset"
        )
    return tuple(found)


def _flat(symmetry: Symmetry, weights: Mapping[str, Tensor], names: Sequence[str]) -> _Tangents:
    """Tangents over the sampled parameters; those that move anything else are left out."""
    symmetry.parts(weights)
    directions = symmetry.directions(weights)
    count = max((len(tangents) for tangents in directions.values()), default=0)
    kept = torch.ones(count, dtype=torch.bool)
    for name, tangents in directions.items():
        if name not in names:
            kept &= ~tangents.reshape(count, weights[name].numel()).any(1)
    blocks = [
        directions[name].reshape(count, weights[name].numel())[kept]
        if name in directions
        else torch.zeros((int(kept.sum()), weights[name].numel()), dtype=torch.float64)
        for name in names
    ]
    rows = torch.cat(blocks, 1)
    return _Tangents(rows, int((~kept).sum()))


def _rank(rows: Tensor) -> int:
    return _span(rows).shape[1]


def _span(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows' span, ``(D, dimension)``."""
    if not len(rows):
        return torch.zeros((rows.shape[1], 0), dtype=rows.dtype)
    _, values, basis = torch.linalg.svd(rows, full_matrices=False)
    limit = max(rows.shape) * torch.finfo(rows.dtype).eps * values[0]
    return basis[values > limit].T


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
