"""Where in a tensor the units of a layer are counted: read there, and written back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError, some

__all__ = ["Entry", "Leg", "as_legs"]

MOST_NUMBERS = 200_000_000


@dataclass(frozen=True)
class Leg:
    """The part of one tensor that a symmetry of n units moves.

    Attributes:
        name: of the tensor.
        axis: counts the units; several axes are flattened into one, their order kept; with ``()``
            all entries belong to one unit.
        start: first index along the (flattened) axis, for tensors that pack several maps.
        stop: index after the last; None for the end.
        block: consecutive indices that make up a unit, as the pixels of a channel once flattened.
    """

    name: str
    axis: int | tuple[int, ...] = 0
    start: int = 0
    stop: int | None = None
    block: int = 1

    def units(self, weights: Mapping[str, Tensor]) -> int:
        """Count the units.

        Raises:
            InputError: no such tensor, no such axis, or an axis that blocks do not fill.
        """
        if self.name not in weights:
            raise InputError(
                f"a symmetry names the tensor {self.name!r}, which the weights do not have, "
                f"expected one of {some(weights, 6)}"
            )
        shape, axes = weights[self.name].shape, self._axes
        if any(not -len(shape) <= axis < len(shape) for axis in axes):
            raise InputError(
                f"{self.name} has shape {tuple(shape)} and no axis {self.axis}: name the axis that "
                "counts the units"
            )
        whole = math.prod(shape[axis] for axis in axes)
        stop = whole if self.stop is None else self.stop
        if not 0 <= self.start < stop <= whole or (stop - self.start) % self.block:
            raise InputError(
                f"indices {self.start} to {stop} of axis {self.axis} of {self.name}, which has "
                f"{whole}, hold no whole number of units of {self.block}: correct the leg"
            )
        return (stop - self.start) // self.block

    def read(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the units' values in double precision, shape ``(units, values)``."""
        front = self._front(weights[self.name].detach().cpu().double())
        return front[self.start : self.stop].reshape(self.units(weights), -1)

    def write(self, tensor: Tensor, values: Tensor) -> Tensor:
        """Return the tensor with these values, ``(units, values)``, put where they are read."""
        axes = [axis % tensor.ndim for axis in self._axes]
        moved = tensor.detach().movedim(axes, list(range(len(axes))))
        front = self._front(tensor.detach()).clone()
        place = front[self.start : self.stop]
        place.copy_(values.reshape(place.shape))
        return front.reshape(moved.shape).movedim(list(range(len(axes))), axes).contiguous()

    def spread(self, tensor: Tensor, values: Tensor) -> Tensor:
        """Lay out k tangents, ``(k, units, values)``, as ``(k, *shape)``, zero elsewhere.

        Raises:
            InputError: they are too many to be held at once.
        """
        numbers = len(values) * tensor.numel()
        if numbers > MOST_NUMBERS:
            raise InputError(
                f"{len(values)} directions of {self.name} are {numbers:.1e} numbers, expected "
                f"{MOST_NUMBERS:.0e} at most: declare fewer symmetries, or those of smaller layers"
            )
        zeros = torch.zeros(tensor.shape, dtype=torch.float64)
        if not len(values):
            return torch.zeros((0, *tensor.shape), dtype=torch.float64)
        return torch.stack([self.write(zeros, value) for value in values])

    @property
    def _axes(self) -> tuple[int, ...]:
        return (self.axis,) if isinstance(self.axis, int) else tuple(self.axis)

    def _front(self, tensor: Tensor) -> Tensor:
        """The tensor as a matrix: the units' axes in front, all others behind."""
        axes = [axis % tensor.ndim for axis in self._axes]
        moved = tensor.movedim(axes, list(range(len(axes))))
        return moved.reshape(math.prod(moved.shape[: len(axes)]), -1)


Entry = str | tuple[str, int | tuple[int, ...]] | Leg


def as_legs(entries: Any, axis: int, what: str) -> tuple[Leg, ...]:
    """Turn names, (name, axis) pairs and legs into legs; a bare name takes the default axis.

    Raises:
        InputError: an entry is none of these.
    """
    if isinstance(entries, str) or not isinstance(entries, Sequence) or _is_pair(entries):
        entries = (entries,)
    found = []
    for entry in entries:
        if isinstance(entry, Leg):
            found.append(entry)
        elif isinstance(entry, str):
            found.append(Leg(entry, axis))
        elif _is_pair(entry):
            found.append(Leg(*entry))
        else:
            raise InputError(
                f"{what} holds {entry!r}, expected the name of a tensor, a pair (name, axis), or a "
                "Leg"
            )
    return tuple(found)


def _is_pair(entry: Any) -> bool:
    return (
        isinstance(entry, tuple)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], int | tuple)
        and not isinstance(entry[1], bool)
    )
