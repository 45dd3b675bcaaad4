"""The contract every transition kernel keeps, and what each step reports.

A kernel is a pair of pure functions. It draws no random numbers, reads no files and holds no
state of its own: noise and batches are arguments, so that loop and vmap agree, a chain can be
replayed, and a step can be recorded. Kernels work on displacements δ = w − w* of shape
``(chains, D)``; all their arithmetic is elementwise or reduces the last dimension only, so that
chains never mix.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llc.surface import Evaluation

__all__ = ["Evaluate", "Kernel", "Numbers", "StepInfo", "Tuning", "observe"]

Evaluate = Callable[[Tensor, Tensor | None], Evaluation]


class Numbers(NamedTuple):
    """What a kernel multiplies with, as tensors ``()`` of double precision.

    Tensors, not Python numbers, so that one recording of a step serves all step sizes. They do
    not raise the precision of what they multiply.
    """

    n_beta: Tensor
    gamma: Tensor
    step_size: Tensor
    friction: Tensor


class Tuning(NamedTuple):
    """Everything a kernel is built from beside the loss.

    Attributes:
        n_beta: nβ, which only preconditioners that look at ∇L itself need.
        gamma: γ.
        step_size: ε of first-order kernels, h of the others.
        friction: Γ, where there is one.
        leaps: gradients a transition takes, where that is a choice.
        frozen: whether a preconditioner has stopped to adapt.
    """

    n_beta: float
    gamma: float
    step_size: float
    friction: float = math.inf
    leaps: int = 1
    frozen: bool = False

    @property
    def numbers(self) -> Numbers:
        """The real-valued part as tensors."""
        return Numbers(*(torch.tensor(x, dtype=torch.float64) for x in self[:4]))


class StepInfo(NamedTuple):
    """What diagnostics need of one step, per chain, at the position where the step began.

    Attributes:
        rise: X = nβ(L_B(w) − L_B(w*)); its expectation is the LLC.
        noise: variance of X by subsampling.
        pull: V = nβ δ·∇L_B(w), the loss's share of the virial.
        spread: R = γ‖δ‖², the prior's share; E[V + R] = D in equilibrium.
        acceptance: probability that the step was accepted; 1 where nothing is ever refused.
    """

    rise: Tensor
    noise: Tensor
    pull: Tensor
    spread: Tensor
    acceptance: Tensor


class Kernel(NamedTuple):
    """One transition.

    Attributes:
        init: ``init(displacement) → state``, a NamedTuple of tensors whose first dimension is
            that of chains.
        step: ``step(state, batch, noise) → (state, StepInfo)``; noise is standard normal, of
            shape ``(chains, normals·D + extra)``.
        normals: random vectors a step takes.
        extra: further random numbers a step takes.
        gradients: gradients a step takes.
        blocks: whether ``step`` overwrites its state and takes, for noise, the function that fills
            a block with it; see `llc.sampling.blocks`.
    """

    init: Callable[[Tensor], Any]
    step: Callable[[Any, Tensor | None, Any], tuple[Any, StepInfo]]
    normals: int = 1
    extra: int = 0
    gradients: int = 1
    blocks: bool = False

    def noise_size(self, dimension: int) -> int:
        """Random numbers a step of one chain takes in D dimensions."""
        return self.normals * dimension + self.extra


def observe(
    evaluation: Evaluation, displacement: Tensor, gamma: Tensor, acceptance: Tensor | None = None
) -> StepInfo:
    """Read the numbers of `StepInfo` off an evaluation in units of nβ.

    Args:
        evaluation: rise, noise and gradient at the position where the step began.
        displacement: that position, δ = w − w*, ``(chains, D)``.
        gamma: γ, ``()``.
        acceptance: of a Metropolis test, ``(chains,)``; 1 unless given.
    """
    return StepInfo(
        evaluation.rise,
        evaluation.noise,
        (displacement * evaluation.gradient).sum(-1),
        gamma * (displacement * displacement).sum(-1),
        torch.ones_like(evaluation.rise) if acceptance is None else acceptance,
    )
