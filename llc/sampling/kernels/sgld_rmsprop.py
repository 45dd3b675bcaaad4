"""SGLD preconditioned by RMSprop's diagonal (Li, Chen, Carlson & Carin 2016, arXiv 1512.07666).

    v ← α v + (1 − α) g²,   v̂ = v/(1 − αᵗ),   P = 1/(√v̂ + η),   g = ∇L_B(δ)
    δ ← δ − (ε/2) P ∇U(δ) + √(εP) ξ

with α = .99, η = .1, and v starting at 1 as Hitchcock & Hoogland (2025, arXiv 2507.21449) have
it: the statistics are those of the loss alone, neither γ nor nβ in them, and v̂ begins large,
so that steps begin small. Published without the term Σ_j ∂P_ij/∂δ_j that a P which depends on
the position would need. While P adapts, what is sampled is therefore not the posterior; with
``adapting`` off P stays what it was and the law is that of SGLD in rescaled coordinates, whose
only bias is Euler's: variance 1/(a(1 − εPa/4)) for a mode along one coordinate.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe

__all__ = ["State", "build", "preconditioner"]

MEMORY = 0.99
FLOOR = 0.1


class State(NamedTuple):
    """Position, mean square gradient v, both ``(chains, D)``, and its age t, ``(chains, 1)``."""

    displacement: Tensor
    square: Tensor
    age: Tensor


def preconditioner(state: State) -> Tensor:
    """Return P, shape ``(chains, D)``."""
    # An age of zero has seen no gradient: v = 1 by itself.
    corrected = 1 - MEMORY**state.age
    square = torch.where(state.age > 0, state.square / corrected.clamp(min=1 - MEMORY), 1.0)
    return 1 / (square.sqrt() + FLOOR)


def build(evaluate: Evaluate, numbers: Numbers, *, adapting: bool) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its nβ and γ, and step size ε."""
    gamma, half, amplitude = numbers.gamma, numbers.step_size / 2, numbers.step_size.sqrt()

    def init(displacement: Tensor) -> State:
        return State(displacement, torch.ones_like(displacement), 0 * displacement[:, :1])

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta = state.displacement
        evaluation = evaluate(delta, batch)
        square, age = state.square, state.age
        if adapting:
            loss_gradient = evaluation.gradient / numbers.n_beta
            square = MEMORY * square + (1 - MEMORY) * loss_gradient**2
            age = age + 1
        scale = preconditioner(State(delta, square, age))
        force = evaluation.gradient + gamma * delta
        moved = delta - half * scale * force + amplitude * scale.sqrt() * noise
        return State(moved, square, age), observe(evaluation, delta, gamma)

    return Kernel(init, step)
