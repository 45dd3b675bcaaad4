"""Kinetic (underdamped) Langevin dynamics, BAOAB splitting (Leimkuhler & Matthews 2013).

With unit mass, step h and friction Γ, one step from the position δ where the gradient is taken:

    p ← p − h ∇U(δ)                                    (B, both half kicks in one)
    δ ← δ + (h/2) p                                    (A)
    p ← e^{−Γh} p + √(1 − e^{−2Γh}) ξ                  (O)
    δ ← δ + (h/2) p                                    (A)

This is BAOAB with its cycle cut in the middle of the kick: the two half kicks around a position
use the same gradient, so the gradient need not be kept and positions are those of BAOAB.
On a quadratic mode of curvature a the configurational variance is exactly 1/a while h²a < 4;
Γ → ∞ gives Leimkuhler–Matthews with ε = h².
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe

__all__ = ["State", "build"]


class State(NamedTuple):
    """Position and momentum, both ``(chains, D)``."""

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
        kicked = state.momentum - step_size * (evaluation.gradient + gamma * delta)
        momentum = keep * kicked + refresh * noise
        moved = delta + half * (kicked + momentum)
        return State(moved, momentum), observe(evaluation, delta, gamma)

    return Kernel(init, step)
