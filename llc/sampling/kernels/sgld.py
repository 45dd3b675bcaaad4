"""Stochastic gradient Langevin dynamics, Euler–Maruyama (Welling & Teh 2011).

    δ ← δ − (ε/2) ∇U(δ) + √ε ξ,    U = nβL + (γ/2)‖δ‖²

On a quadratic mode of curvature a the stationary variance is 1/(a(1 − εa/4)), stable for
0 < εa < 4: an over-estimate that halves with ε.
"""

from typing import NamedTuple

from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe

__all__ = ["State", "build"]


class State(NamedTuple):
    """Position of the chains, shape ``(chains, D)``."""

    displacement: Tensor


def build(evaluate: Evaluate, numbers: Numbers) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, and step size ε."""
    gamma, half, amplitude = numbers.gamma, numbers.step_size / 2, numbers.step_size.sqrt()

    def init(displacement: Tensor) -> State:
        return State(displacement)

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta = state.displacement
        evaluation = evaluate(delta, batch)
        force = evaluation.gradient + gamma * delta
        moved = delta - half * force + amplitude * noise
        return State(moved), observe(evaluation, delta, gamma)

    return Kernel(init, step)
