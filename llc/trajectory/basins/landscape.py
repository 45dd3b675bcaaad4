"""The loss at any weights of one architecture, and along paths between two of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llc.checkpoints import load_weights
from llc.data import number_of_examples, take
from llc.errors import InputError
from llc.objective import CHUNK, Objective
from llc.private import private_copy
from llc.task import Task
from llc.trajectory.sources import Item

__all__ = ["Landscape", "Place", "Weights", "blended", "weights_of"]

Weights = Mapping[str, Tensor] | str | Path | Item
ROUNDINGS = 8


class Place(NamedTuple):
    """A point of weight space: every floating-point parameter laid flat, and the buffers."""

    vector: Tensor
    buffers: tuple[Tensor, ...]


class Landscape:
    """L(w) over all of one data set, on private copies of a task's model and data.

    Every floating-point parameter takes part, also those that need no gradient: a frozen layer
    that differs between two checkpoints lies on the way from one to the other.

    Args:
        task: model, data and loss.
        data: evaluate on these instead of the task's own (held-out data, a subset).
        device: where to compute; None keeps the model's own.

    Attributes:
        task: with the data that are evaluated.
        dimension: D, number of parameters.

    Raises:
        InputError: data for a potential, or what `llc.objective.Objective` refuses.
    """

    def __init__(self, task: Task, data: Any = None, device: str | None = None) -> None:
        if data is not None:
            if task.potential is not None:
                raise InputError("data is given, but a potential takes none: drop data")
            task = replace(task, data=data)
        self.task = task
        self._objective = Objective(_all_free(task), device=device)
        self._layout = self._objective.layout
        self.dimension = self._layout.total
        self._own = list(self._objective.module.model.buffers())

    def place(self, weights: Weights) -> Place:
        """Lay named weights flat.

        Raises:
            InputError: a file that cannot be read, weights that do not fit the model, or weights
                that hold nan or infinity.
        """
        model = self.task.at(weights_of(weights)).model
        # A loss with parameters of its own keeps them.
        named = dict(self._objective.module.named_parameters())
        named |= {f"model.{name}": value for name, value in model.named_parameters()}
        vector = self._layout.flatten(named).to(self._objective.device)
        if not vector.isfinite().all():
            raise InputError(
                "the weights hold nan or infinity: training diverged before this checkpoint; give "
                "an earlier one"
            )
        return Place(vector, tuple(b.detach().to(self._objective.device) for b in model.buffers()))

    @torch.no_grad()
    def loss(self, place: Place) -> float:
        """Return L, accumulated in float64 over all data; infinite where it is not finite."""
        self._settle(place.buffers)
        data, size = self._objective.data, self._objective.size
        if size is None:
            return _finite_or_inf(self._objective.values(place.vector, None).double().item())
        total = 0.0
        for start in range(0, size, CHUNK):
            batch = take(data, slice(start, start + CHUNK))
            total += self._mean(place.vector, batch) * number_of_examples(batch)
        return _finite_or_inf(total / size)

    def gradient(self, place: Place, index: Tensor | None) -> Tensor:
        """Return ∇L, shape ``(D,)``, over the examples of an index or over all."""
        self._settle(place.buffers)
        batch = None
        if self._objective.size is not None:
            batch = self._objective.data if index is None else take(self._objective.data, index)
        vector = place.vector.detach().requires_grad_()
        with torch.enable_grad():
            mean = self._objective.values(vector, batch).mean()
        return torch.autograd.grad(mean, vector)[0]

    def losses(self, path: Callable[[float], Place], grid: Sequence[float]) -> list[float]:
        """Return L along a path, at each number of a grid."""
        return [self.loss(path(t)) for t in grid]

    def resolution(self, loss: float) -> float:
        """Difference of losses that rounding alone can make: 8 units in the last place of 1 + L.

        The units are those of the least precise parameters, since in them the model computes.
        """
        kinds = [torch.finfo(dtype).eps for dtype in self._layout.dtypes]
        return ROUNDINGS * max(kinds) * (1 + abs(loss))

    @property
    def size(self) -> int | None:
        """n, number of examples; None for a potential."""
        return self._objective.size

    @property
    def device(self) -> torch.device:
        """Where the loss is computed."""
        return self._objective.device

    def _mean(self, vector: Tensor, batch: Any) -> float:
        return self._objective.values(vector, batch).double().mean().item()

    @torch.no_grad()
    def _settle(self, buffers: tuple[Tensor, ...]) -> None:
        for own, value in zip(self._own, buffers, strict=True):
            own.copy_(value)


def weights_of(given: Weights) -> Mapping[str, Tensor]:
    """Return named weights, read from their file if they are in one."""
    if isinstance(given, Item):
        return given.read()[0]
    if isinstance(given, str | Path):
        return load_weights(given)
    if not isinstance(given, Mapping):
        raise InputError(
            f"weights are a {type(given).__name__}, expected a state dict or the path of a "
            "checkpoint: give model.state_dict()"
        )
    return given


def blended(places: Sequence[Place], shares: Sequence[float], t: float) -> Place:
    """Return Σ share·w of some places; buffers go straight from the first to the last.

    Floating-point buffers (running statistics) are interpolated at t, so that both ends are
    exactly the checkpoints; others are those of the nearer end.
    """
    first = places[0].vector
    # Differences from the first: a path between equal places rounds nowhere.
    vector = first.clone()
    for share, place in zip(shares[1:], places[1:], strict=True):
        vector += share * (place.vector - first)
    if shares[-1] == 1:
        vector = places[-1].vector
    pairs = zip(places[0].buffers, places[-1].buffers, strict=True)
    near = 0 if t < 0.5 else 1
    buffers = tuple(
        (1 - t) * pair[0] + t * pair[1] if pair[0].is_floating_point() else pair[near]
        for pair in pairs
    )
    return Place(vector, buffers)


def _all_free(task: Task) -> Task:
    """A copy in which every floating-point parameter counts as one to be moved."""
    model = private_copy(task.model)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return replace(task, model=model)


def _finite_or_inf(value: float) -> float:
    return value if math.isfinite(value) else math.inf
