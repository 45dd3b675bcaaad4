"""Stochastic gradient Nosé–Hoover thermostat (Ding et al. 2014), split as BADODAB.

The friction ζ of kinetic Langevin dynamics becomes a variable that holds the momenta at unit
temperature, whatever (white, isotropic, constant) noise the gradient brings:

    dp = −∇U dt − ζ p dt + √(2Γ) dW,   dδ = p dt,   dζ = (‖p‖²/D − 1)/μ dt

with the splitting of Leimkuhler & Shang (2016, "Adaptive thermostats for noisy gradient systems",
SIAM J. Sci. Comput. 38), cut as in `kinetic`: one gradient a step. In equilibrium ζ has mean Γ
and variance 1/(μD); μ = 2/Γ² lets the thermostat settle as fast as it can without ringing. One
ζ a chain. Not exact on quadratics: biased at second order in h.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe

__all__ = ["State", "build"]

TINY = 1e-6


class State(NamedTuple):
    """Position and momentum, ``(chains, D)``, and friction ζ, ``(chains, 1)``."""

    displacement: Tensor
    momentum: Tensor
    thermostat: Tensor


def build(evaluate: Evaluate, numbers: Numbers) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, step h and mean friction Γ."""
    gamma, step_size, friction = numbers.gamma, numbers.step_size, numbers.friction
    half = step_size / 2
    gain = half * friction**2 / 2  # (h/2)/μ

    def init(displacement: Tensor) -> State:
        start = torch.zeros_like(displacement[:, :1]) + friction.to(displacement.dtype)
        return State(displacement, torch.zeros_like(displacement), start)

    def heat(momentum: Tensor, thermostat: Tensor) -> Tensor:
        temperature = (momentum * momentum).mean(-1, keepdim=True)
        return thermostat + gain * (temperature - 1)

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta = state.displacement
        evaluation = evaluate(delta, batch)
        kicked = state.momentum - step_size * (evaluation.gradient + gamma * delta)
        zeta = heat(kicked, state.thermostat)
        decay = step_size * zeta
        # ∫ of e^{−2ζs} over the step; its limit h where ζ passes through zero.
        small = decay.abs() < TINY
        safe = torch.where(small, TINY, decay)
        length = torch.where(small, 1.0, -torch.expm1(-2 * safe) / (2 * safe)) * step_size
        momentum = (-decay).exp() * kicked + (2 * friction * length).sqrt() * noise
        moved = delta + half * (kicked + momentum)
        return State(moved, momentum, heat(momentum, zeta)), observe(evaluation, delta, gamma)

    return Kernel(init, step)
