"""Constants that can be added in one place and taken off in another, or that the loss ignores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError
from llc.symmetry.base import PRESERVED, Moved, Part, Symmetry, added
from llc.symmetry.legs import Entry, Leg, as_legs

__all__ = ["Offset"]

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Offset(Symmetry):
    """A vector c added to the units of one tensor, and taken off wherever it would arrive.

    - ``Offset("left.bias", ("right.bias",))``: biases that are summed, c ∈ Rⁿ.
    - ``Offset("first.bias", (("second.weight", "second.bias"),))``: a constant that the next linear
      map turns into −W·c of its bias; no activation in between. Attention passes constants on
      (its weights add up to one), so that a value bias goes into the output's bias.
    - ``Offset(("unembedding.weight", 1), preserves="loss")``: the same vector for all
      classes, which shifts all logits alike: a softmax does not see it.
    - ``Offset("key.bias")``: shifts the scores of a query alike, which its softmax does not see.

    Args:
        source: a name, a pair (name, axis) or a leg: c has an entry for each unit along the axis (0
            unless given), the same for all other indices.
        into: what compensates: entries from which c is taken, or pairs (weight, bias) of entries
            with W·c taken from the bias; the weight's units are along axis 1 unless given.
        name: what tables call it; the source unless given.
        preserves: ``"outputs"`` or ``"loss"``.

    Raises:
        InputError: an entry is no entry.
    """

    source: Entry
    into: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if self.preserves not in PRESERVED:
            raise InputError(f"preserves is {self.preserves!r}, expected 'outputs' or 'loss'")
        object.__setattr__(self, "source", as_legs(self.source, 0, "source")[0])
        places = (self.into,) if isinstance(self.into, str | Leg) else tuple(self.into)
        object.__setattr__(self, "into", tuple(_place(place) for place in places))
        object.__setattr__(self, "name", self.name or self._source.name)

    @property
    def _source(self) -> Leg:
        assert isinstance(self.source, Leg)
        return self.source

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors it moves, and of those it reads to do so."""
        legs = [self._source, *(leg for place in self.into for leg in place if leg is not None)]
        return frozenset(leg.name for leg in legs)

    def parts(self, weights: Weights) -> tuple[Part, ...]:
        """Return its one kind of move; an isometry where no weight stands in between."""
        n = self._checked(weights)
        plain = all(weight is None for weight, _ in self.into)
        return (Part("shift", plain, 1, n, self._move, self._directions),)

    def shift(self, weights: Weights, c: Tensor) -> dict[str, Tensor]:
        """Add c, ``(n,)``, to the source and take it off elsewhere."""
        moved = dict(weights)
        for leg, change in self._changes(weights, c.double().unsqueeze(1)):
            moved[leg.name] = leg.write(moved[leg.name], leg.read(moved) + change)
        return moved

    def nearest(
        self, reference: Weights, weights: Weights, without: frozenset[str] = frozenset()
    ) -> dict[str, Tensor]:
        """Shift by the c of least squares, which is a linear problem."""
        n = self._checked(weights)
        matrix, right = torch.zeros((n, n), dtype=torch.float64), torch.zeros(n).double()
        # Row k of the tangents of a tensor, for each k: least squares on their Gram matrix.
        for ignored in (without, frozenset[str]()):
            for leg, change in self._changes(weights, torch.eye(n, dtype=torch.float64)):
                if leg.name not in ignored:
                    gap = leg.read(reference) - leg.read(weights)
                    lined = self._as_tangents(leg, change, gap.shape)
                    matrix = matrix + torch.einsum("kab,lab->kl", lined, lined)
                    right = right + torch.einsum("kab,ab->k", lined, gap)
            if matrix.any():
                break
        return self.shift(weights, torch.linalg.lstsq(matrix, right, driver="gelsd").solution)

    def _changes(self, weights: Weights, c: Tensor) -> list[tuple[Leg, Tensor]]:
        """What each tensor changes by for shifts c, ``(n, k)``; k = 1 broadcasts over values."""
        found = [(self._source, c)]
        for weight, bias in self.into:
            found.append((bias, -c if weight is None else -weight.read(weights).T @ c))
        return found

    def _as_tangents(self, leg: Leg, change: Tensor, shape: torch.Size) -> Tensor:
        """Columns of a change as tangents ``(k, units, values)``."""
        return change.T.unsqueeze(2).expand(change.shape[1], *shape)

    def _directions(self, weights: Weights) -> dict[str, Tensor]:
        n = self._checked(weights)
        return added(
            (
                leg.name,
                leg.spread(
                    weights[leg.name], self._as_tangents(leg, change, leg.read(weights).shape)
                ),
            )
            for leg, change in self._changes(weights, torch.eye(n, dtype=torch.float64))
        )

    def _move(self, weights: Weights, generator: torch.Generator, strength: float) -> Moved:
        values = self._source.read(weights)
        size = float(values.square().mean().sqrt()) or 1.0
        c = strength * size * torch.randn(len(values), generator=generator, dtype=torch.float64)
        plain = all(weight is None for weight, _ in self.into)
        # (δW, δb) → (δW, δb − δW·c) is a shear by |c|, whose singular values are e^±asinh(|c|/2).
        stretch = 0.0 if plain else math.asinh(float(c.norm()) / 2)
        return Moved(self.shift(weights, c), stretch)

    def _checked(self, weights: Weights) -> int:
        n = self._source.units(weights)
        for weight, bias in self.into:
            units = bias.units(weights) if weight is None else weight.units(weights)
            if units != n:
                leg = bias if weight is None else weight
                raise InputError(
                    f"{self.name}: axis {self._source.axis} of {self._source.name} counts {n} "
                    f"units, axis {leg.axis} of {leg.name} {units}: name the axes that count the "
                    "same units"
                )
            if weight is not None and weight.read(weights).shape[1] != bias.units(weights):
                raise InputError(
                    f"{self.name}: {weight.name} has {weight.read(weights).shape[1]} outputs a "
                    f"unit and {bias.name} {bias.units(weights)} entries, expected as many: name "
                    "the bias of that weight"
                )
        return n


def _place(place: Any) -> tuple[Leg | None, Leg]:
    """Normalise an entry from which c is taken, or a pair (weight, bias)."""
    if isinstance(place, tuple) and len(place) == 2 and not isinstance(place[1], int):
        if place[0] is None:
            return None, as_legs(place[1], 0, "into")[0]
        return as_legs(place[0], 1, "into")[0], as_legs(place[1], 0, "into")[0]
    return None, as_legs(place, 0, "into")[0]
