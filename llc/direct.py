"""One chain's loss and gradient, computed into vectors that stay.

A large model's gradient as a function of one flat vector takes three more vectors of its size: the
sum w* + δ, the pieces' gradients, and their concatenation, each fetched from the system and given
back. Here the model's weights are views of one vector and their gradients views of another, to
which a backward pass adds what it finds, over as many parts of a batch as there are.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError
from llc.objective import Objective
from llc.params import Layout

__all__ = ["NO_GRADIENT", "DirectGradient", "Part", "gradient_of"]

Part = tuple[Any, Tensor | None, int]
"""A batch, its losses at w*, its number of examples."""
NO_GRADIENT = (
    "the loss has no gradient with respect to the weights, as an error rate or a detached output: "
    "give a differentiable loss"
)
OTHER_WEIGHTS = (
    "the loss has a gradient, but not with respect to the weights that are sampled: use the first "
    "argument of batch_loss or potential, not the network outside, and no module that the model "
    "does not own or that is quantised"
)


def gradient_of(value: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient of a scalar.

    Raises:
        InputError: the value does not depend on these weights, or their gradient is sparse.
    """
    try:
        return torch.autograd.grad(value, weights)[0]
    except RuntimeError as error:
        if "not have been used in the graph" in str(error):
            raise InputError(OTHER_WEIGHTS) from error
        if "sparse tensors" in str(error):
            raise InputError(
                "a weight has a sparse gradient, as of torch.nn.functional.embedding with "
                "sparse=True, expected a dense one: give sparse=False"
            ) from error
        raise


class DirectGradient:
    """Rises of the loss and ∇L_B at w* + δ, for one δ at a time.

    Args:
        objective: one that `of` takes.

    Attributes:
        gradient: ∇L_B where it was computed last, shape ``(D,)``; the next call overwrites it.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._weights = torch.empty_like(objective.centre)
        self.gradient = torch.zeros_like(objective.centre)
        named = objective.layout.unflatten(self._weights)
        gradients = objective.layout.unflatten(self.gradient)
        self._leaves = {name: piece.detach().requires_grad_() for name, piece in named.items()}
        for name, leaf in self._leaves.items():
            leaf.grad = gradients[name]

    @classmethod
    def of(cls, objective: Objective) -> "DirectGradient | None":
        """Return one where weights are whole tensors of the flat vector's precision, else None."""
        layout = objective.layout
        whole = type(layout) is Layout and set(layout.dtypes) == {layout.dtype}
        return cls(objective) if whole else None

    def evaluate(self, displacement: Tensor, parts: Iterable[Part], total: int) -> Tensor:
        """Compute the gradient of the mean over all examples of all parts.

        Args:
            displacement: δ, shape ``(D,)``.
            parts: batches, their losses at w* (by example, their mean, or None), their sizes.
            total: the sum of the sizes.

        Returns:
            Losses less those at w*, by example, ``(total,)``; or, where the loss gives means,
            their mean ``()``.

        Raises:
            InputError: the loss does not depend on the weights in a differentiable way.
        """
        self._move(displacement)
        self.gradient.zero_()
        return self._objective.during(self._leaves, partial(self._differentiate, parts, total))

    def _differentiate(self, parts: Iterable[Part], total: int) -> Tensor:
        leaves, found = list(self._leaves.values()), []
        for batch, reference, count in parts:
            with torch.enable_grad():
                rises = self._rises(batch, reference)
                if not rises.requires_grad:
                    raise InputError(NO_GRADIENT)
                share = rises.sum() / total if rises.ndim else rises * (count / total)
                share.backward(inputs=leaves)
            found.append(rises.detach() if rises.ndim else share.detach())
        return _together(found)

    @torch.no_grad()
    def rises(self, displacement: Tensor, parts: Iterable[Part], total: int) -> Tensor:
        """Return losses less those at w*, as `evaluate` does, without a gradient."""
        self._move(displacement)
        found = []
        for batch, reference, count in parts:
            rises = self._rises(batch, reference)
            found.append(rises if rises.ndim else rises * (count / total))
        return _together(found)

    def _move(self, displacement: Tensor) -> None:
        torch.add(self._objective.centre, displacement.detach(), out=self._weights)

    def _rises(self, batch: Any, reference: Tensor | None) -> Tensor:
        values = self._objective.values_at(self._leaves, batch)
        if reference is None:
            with torch.no_grad():
                reference = self._objective.values(self._objective.centre, batch)
        return values - reference


def _together(found: list[Tensor]) -> Tensor:
    """Values by example end to end; shares of a mean added up."""
    if len(found) == 1:
        return found[0]
    return torch.cat(found) if found[0].ndim else torch.stack(found).sum()
