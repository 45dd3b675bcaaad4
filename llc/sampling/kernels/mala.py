"""Metropolis-adjusted Langevin (Roberts & Tweedie 1996): SGLD's step as a proposal.

    δ' = δ − (ε/2) ∇U(δ) + √ε ξ,
    accepted with probability min(1, e^{U(δ) − U(δ')} q(δ|δ')/q(δ'|δ)), q the proposal's density

Exact at every ε, on all data only: a reference for small models, not a sampler for large ones.
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


def build(evaluate: Evaluate, numbers: Numbers) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its γ, and step size ε."""
    gamma, half, amplitude = numbers.gamma, numbers.step_size / 2, numbers.step_size.sqrt()

    def init(displacement: Tensor) -> State:
        here = evaluate(displacement, None)
        return State(displacement, here.gradient, here.rise)

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta, kick = state.displacement, noise[:, :-1]
        proposed = delta - half * (state.gradient + gamma * delta) + amplitude * kick
        there = evaluate(proposed, batch)
        # The kick that would lead back; its square is compared by a product, without cancellation.
        back = delta - proposed + half * (there.gradient + gamma * proposed)
        back = torch.where(amplitude > 0, back / amplitude, kick)
        before = observe(Evaluation(state.rise, 0 * state.rise, state.gradient), delta, gamma)
        after = observe(there, proposed, gamma)
        log_ratio = (
            before.rise - after.rise
            + (before.spread - after.spread) / 2
            + ((kick - back) * (kick + back)).sum(-1) / 2
        )  # fmt: skip
        accepted = torch.special.log_ndtr(noise[:, -1]) < log_ratio
        chosen = accepted.unsqueeze(-1)
        new = State(
            torch.where(chosen, proposed, delta),
            torch.where(chosen, there.gradient, state.gradient),
            torch.where(accepted, there.rise, state.rise),
        )
        return new, before._replace(acceptance=log_ratio.clamp(max=0).exp().nan_to_num(0))

    return Kernel(init, step, extra=1)
