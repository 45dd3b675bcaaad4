"""Leimkuhler–Matthews SGLD: Euler–Maruyama with averaged noise (arXiv 1203.5428, eq. 4).

    δ_{k+1} = δ_k − (ε/2) ∇U(δ_k) + (√ε/2)(ξ_k + ξ_{k+1})

On a quadratic mode of curvature a the stationary variance is exactly 1/a for every
0 < εa < 4, at the same one gradient a step.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe

__all__ = ["State", "build"]


class State(NamedTuple):
    """Position and the noise of the last step, both ``(chains, D)``."""

    displacement: Tensor
    last_noise: Tensor


def build(evaluate: Evaluate, numbers: Numbers) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, and step size ε."""
    gamma, half, amplitude = numbers.gamma, numbers.step_size / 2, numbers.step_size.sqrt() / 2

    def init(displacement: Tensor) -> State:
        return State(displacement, torch.zeros_like(displacement))

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta = state.displacement
        evaluation = evaluate(delta, batch)
        force = evaluation.gradient + gamma * delta
        moved = delta - half * force + amplitude * (state.last_noise + noise)
        # A tensor of its own: a state may not share memory with what the caller passed in.
        return State(moved, noise.clone()), observe(evaluation, delta, gamma)

    return Kernel(init, step)
