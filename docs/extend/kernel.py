"""A kernel to start from: kinetic Langevin dynamics, OBABO splitting (Bussi & Parrinello 2007).

With unit mass, step h and friction Γ, one step from the position δ where the gradient is taken:

    p ← p − (h/2) ∇U(δ)                                (B, second half of the last step)
    p ← e^{−Γh} p + √(1 − e^{−2Γh}) ξ                  (O, both halves in one)
    p ← p − (h/2) ∇U(δ)                                (B, first half of this one)
    δ ← δ + h p                                        (A)

On a quadratic mode of curvature a the variance of δ is 1/(a(1 − h²a/4)) for h²a < 4: too large to
second order in h, where the default's, BAOAB, is exact.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe

__all__ = ["State", "build"]


class State(NamedTuple):
    """What the next step needs and nothing else: tensors ``(chains, D)``, position first."""

    displacement: Tensor
    momentum: Tensor


def build(evaluate: Evaluate, numbers: Numbers) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, step h and friction Γ."""
    gamma, step_size = numbers.gamma, numbers.step_size
    decay = numbers.friction * step_size
    keep, refresh = (-decay).exp(), (-torch.expm1(-2 * decay)).sqrt()
    half = step_size / 2

    def init(displacement: Tensor) -> State:
        return State(displacement, torch.zeros_like(displacement))

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta = state.displacement
        evaluation = evaluate(delta, batch)
        # Both half kicks around a position use one gradient.
        force = evaluation.gradient + gamma * delta
        kicked = state.momentum - half * force
        momentum = keep * kicked + refresh * noise - half * force
        moved = delta + step_size * momentum
        return State(moved, momentum), observe(evaluation, delta, gamma)

    return Kernel(init, step)
