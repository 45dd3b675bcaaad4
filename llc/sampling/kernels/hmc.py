"""Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011), on all data.

Momenta are drawn anew, L leapfrog steps of length h follow, and the end is accepted with
probability min(1, e^{−ΔH}). All steps of one transition are stretched by a common random factor
within ±20 %, drawn before it begins, so that no mode turns in step with the trajectory.
Exact at every h: the reference for small models.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe
from llc.surface import Evaluation

__all__ = ["State", "build"]

STRETCH = 0.2


class State(NamedTuple):
    """Position and gradient of nβL, ``(chains, D)``, and its rise, ``(chains,)``."""

    displacement: Tensor
    gradient: Tensor
    rise: Tensor


def build(evaluate: Evaluate, numbers: Numbers, *, leaps: int) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, step h and L leaps."""
    gamma = numbers.gamma

    def init(displacement: Tensor) -> State:
        here = evaluate(displacement, None)
        return State(displacement, here.gradient, here.rise)

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        start, stretch = noise[:, :-2], torch.special.ndtr(noise[:, -2:-1])
        step_size = numbers.step_size * (1 + STRETCH * (2 * stretch - 1))
        delta, gradient = state.displacement, state.gradient
        momentum = start - step_size / 2 * (gradient + gamma * delta)
        there = here = Evaluation(state.rise, 0 * state.rise, state.gradient)
        for leap in range(leaps):
            delta = delta + step_size * momentum
            there = evaluate(delta, batch)
            share = step_size if leap < leaps - 1 else step_size / 2
            momentum = momentum - share * (there.gradient + gamma * delta)
        before = observe(here, state.displacement, gamma)
        after = observe(there, delta, gamma)
        log_ratio = (
            before.rise - after.rise
            + (before.spread - after.spread) / 2
            + ((start - momentum) * (start + momentum)).sum(-1) / 2
        )  # fmt: skip
        accepted = torch.special.log_ndtr(noise[:, -1]) < log_ratio
        chosen = accepted.unsqueeze(-1)
        new = State(
            torch.where(chosen, delta, state.displacement),
            torch.where(chosen, there.gradient, state.gradient),
            torch.where(accepted, there.rise, state.rise),
        )
        return new, before._replace(acceptance=log_ratio.clamp(max=0).exp().nan_to_num(0))

    return Kernel(init, step, extra=2, gradients=leaps)
