"""Leimkuhler–Matthews SGLD: Euler–Maruyama with averaged noise (arXiv 1203.5428, eq. 4).

    δ_{k+1} = δ_k − (ε/2) ∇U(δ_k) + (√ε/2)(ξ_k + ξ_{k+1})

On a quadratic mode of curvature a the stationary variance is exactly 1/a for every
0 < εa < 4, at the same one gradient a step.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, StepInfo, observe

__all__ = ["State", "build"]


class State(NamedTuple):
    """Position and the noise of the last step, both ``(chains, D)``."""

    displacement: Tensor
    last_noise: Tensor


def build(evaluate: Evaluate, *, gamma: float, step_size: float) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, and step size ε."""

    def init(displacement: Tensor) -> State:
        return State(displacement, torch.zeros_like(displacement))

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta = state.displacement
        evaluation = evaluate(delta, batch)
        force = evaluation.gradient + gamma * delta
        kick = (step_size**0.5 / 2) * (state.last_noise + noise)
        moved = delta - (step_size / 2) * force + kick
        return State(moved, noise), observe(evaluation, delta, gamma)

    return Kernel(init, step)
