"""The contract every transition kernel keeps, and what each step reports.

A kernel is a pair of pure functions. It draws no random numbers, reads no files and holds no
state of its own: noise and batches are arguments, so that loop and vmap agree and a chain can
be replayed. Kernels work on displacements δ = w − w* of shape ``(chains, D)``; all their
arithmetic is elementwise or reduces the last dimension only, so that chains never mix.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from llc.surface import Evaluation

__all__ = ["Evaluate", "Kernel", "StepInfo", "observe"]

Evaluate = Callable[[Tensor, Tensor | None], Evaluation]


class StepInfo(NamedTuple):
    """What diagnostics need of one step, per chain, at the position where the step began.

    Attributes:
        rise: X = nβ(L_B(w) − L_B(w*)); its expectation is the LLC.
        noise: variance of X by subsampling.
        pull: V = nβ δ·∇L_B(w), the loss's share of the virial.
        spread: R = γ‖δ‖², the prior's share; E[V + R] = D in equilibrium.
    """

    rise: Tensor
    noise: Tensor
    pull: Tensor
    spread: Tensor


class Kernel(NamedTuple):
    """One transition: ``init(displacement) → state``, ``step(state, batch, noise)``."""

    init: Callable[[Tensor], Any]
    step: Callable[[Any, Tensor | None, Tensor], tuple[Any, StepInfo]]


def observe(evaluation: Evaluation, displacement: Tensor, gamma: float) -> StepInfo:
    """Read the four numbers of `StepInfo` off an evaluation in units of nβ."""
    return StepInfo(
        evaluation.rise,
        evaluation.noise,
        (displacement * evaluation.gradient).sum(-1),
        gamma * (displacement * displacement).sum(-1),
    )
