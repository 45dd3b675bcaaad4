"""Metropolis-adjusted Langevin trajectories (Riou-Durand & Vogrinc 2022, arXiv 2202.13230).

Kinetic Langevin with a Metropolis test at the end of each trajectory. Momenta are drawn anew; L
leapfrog steps follow with a partial refreshment p ← e^{−Γh} p + √(1 − e^{−2Γh}) ξ between
each two; the end is accepted with probability min(1, e^{−Δ}), Δ the energy errors of the
leapfrog steps added up. Γ = 0 is HMC. Exact at every h, on all data only.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe
from llc.surface import Evaluation

__all__ = ["State", "build"]


class State(NamedTuple):
    """Position and gradient of nβL, ``(chains, D)``, and its rise, ``(chains,)``."""

    displacement: Tensor
    gradient: Tensor
    rise: Tensor


def build(evaluate: Evaluate, numbers: Numbers, *, leaps: int) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, step h, friction Γ and L leaps."""
    gamma, step_size = numbers.gamma, numbers.step_size
    decay = numbers.friction * step_size
    keep, refresh = (-decay).exp(), (-torch.expm1(-2 * decay)).sqrt()

    def init(displacement: Tensor) -> State:
        here = evaluate(displacement, None)
        return State(displacement, here.gradient, here.rise)

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        kicks = noise[:, :-1].unflatten(-1, (leaps, -1)).unbind(1)
        delta, gradient, momentum = state.displacement, state.gradient, kicks[0]
        there = here = Evaluation(state.rise, 0 * state.rise, gradient)
        before = observe(here, delta, gamma)
        log_ratio = before.rise + before.spread / 2
        for leap in range(leaps):
            if leap:
                momentum = keep * momentum + refresh * kicks[leap]
            start = momentum
            momentum = momentum - step_size / 2 * (gradient + gamma * delta)
            delta = delta + step_size * momentum
            there = evaluate(delta, batch)
            gradient = there.gradient
            momentum = momentum - step_size / 2 * (gradient + gamma * delta)
            log_ratio = log_ratio + ((start - momentum) * (start + momentum)).sum(-1) / 2
        after = observe(there, delta, gamma)
        # Potential energies of inner points cancel between neighbouring leaps.
        log_ratio = log_ratio - after.rise - after.spread / 2
        accepted = torch.special.log_ndtr(noise[:, -1]) < log_ratio
        chosen = accepted.unsqueeze(-1)
        new = State(
            torch.where(chosen, delta, state.displacement),
            torch.where(chosen, gradient, state.gradient),
            torch.where(accepted, there.rise, state.rise),
        )
        return new, before._replace(acceptance=log_ratio.clamp(max=0).exp().nan_to_num(0))

    return Kernel(init, step, normals=leaps, extra=1, gradients=leaps)
