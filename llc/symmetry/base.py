"""What a symmetry is here: parts that move weights, tangents, and the way to a reference."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FACTOR", "PRESERVED", "Moved", "Part", "Symmetry", "added", "joined"]

FACTOR = math.log(2)
"""Default strength: factors from a half to two."""
PRESERVED = ("outputs", "loss")

Weights = Mapping[str, Tensor]


class Moved(NamedTuple):
    """Weights elsewhere in their orbit.

    Attributes:
        weights: a new dictionary; tensors that did not move are shared with the old one.
        stretch: ln of the largest factor by which the move stretches or shrinks a displacement of
            the weights; 0 for an isometry.
    """

    weights: dict[str, Tensor]
    stretch: float


@dataclass(frozen=True)
class Part:
    """One kind of move that a symmetry allows.

    Attributes:
        label: what it is: permutation, signs, rescaling, rotation, gauge, shift.
        isometry: whether it keeps distances between weights, so that the localised posterior moves
            along as a whole and every estimate of λ has the same expectation.
        discrete: how many moves there are, where they are finite in number; 1 for continuous ones.
        dimension: of the group of moves; its orbit has at most as many dimensions.
        move: (weights, generator, strength) → `Moved`, at random.
        directions: weights → tangents of the orbit, name → ``(k, *shape)``.
    """

    label: str
    isometry: bool
    discrete: int
    dimension: int
    move: Callable[[Weights, torch.Generator, float], Moved]
    directions: Callable[[Weights], dict[str, Tensor]]


@dataclass(frozen=True)
class Symmetry(ABC):
    """Moves of named weights under which outputs, or only the loss, stay as they are.

    Attributes:
        name: what tables call it.
        preserves: ``"outputs"``, or ``"loss"`` where outputs change and the loss does not see it.
    """

    name: str = field(default="", kw_only=True)
    preserves: str = field(default="outputs", kw_only=True)

    @abstractmethod
    def parts(self, weights: Weights) -> tuple[Part, ...]:
        """Return the kinds of moves, each by itself, after checking that the tensors fit.

        Raises:
            InputError: a tensor is missing, or axes do not count the same units.
        """

    @abstractmethod
    def nearest(
        self, reference: Weights, weights: Weights, without: frozenset[str] = frozenset()
    ) -> dict[str, Tensor]:
        """Move the weights as near to the reference as this symmetry alone can bring them.

        Tensors named in ``without`` have no say (others may still have to be aligned along their
        other axes), unless they are all there are.
        """

    @property
    @abstractmethod
    def tensors(self) -> frozenset[str]:
        """Names of the tensors it moves."""

    def random(
        self, weights: Weights, generator: torch.Generator, strength: float = FACTOR
    ) -> dict[str, Tensor]:
        """Move the weights by one random move of each part.

        Args:
            weights: name → tensor.
            generator: of random numbers, on the CPU.
            strength: of continuous moves: ln of the largest factor of a rescaling or gauge; shifts
                are as many standard deviations of what they shift. Rotations are drawn evenly.

        Returns:
            A new dictionary; tensors that did not move are shared.
        """
        moved = dict(weights)
        for part in self.parts(weights):
            moved = part.move(moved, generator, strength).weights
        return moved

    def directions(self, weights: Weights) -> dict[str, Tensor]:
        """Return tangents that span the orbit's directions at the weights, in double precision.

        Returns:
            Name → ``(k, *shape)`` for the tensors that move, the same k for all; k = 0 for a
            finite symmetry. They need not be independent.
        """
        return joined([part.directions(weights) for part in self.parts(weights)], weights)


def joined(found: Sequence[Mapping[str, Tensor]], weights: Weights) -> dict[str, Tensor]:
    """Put sets of tangents below one another; a tensor that a set does not move gets zeros."""
    names = [name for name in weights if any(name in tangents for tangents in found)]
    counts = [max((len(t) for t in tangents.values()), default=0) for tangents in found]
    result = {}
    for name in names:
        blocks = [
            tangents.get(name, torch.zeros((count, *weights[name].shape), dtype=torch.float64))
            for tangents, count in zip(found, counts, strict=True)
        ]
        result[name] = torch.cat(blocks)
    return result


def added(pairs: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Add up tangents of equal number, tensor by tensor."""
    result: dict[str, Tensor] = {}
    for name, tangents in pairs:
        result[name] = result[name] + tangents if name in result else tangents
    return result
