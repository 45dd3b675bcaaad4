"""devinterp's own optimisers (timaeus-research/devinterp, ``SGMCMC``) as transition kernels.

Its updates run unchanged on ours as everything else does: same batches, paired baseline, same
diagnostics. ``SGMCMC.sgld`` is Euler–Maruyama; ``SGMCMC.rmsprop_sgld`` is preconditioned by a
running mean square of ∇L that starts at zero and never stops to adapt. devinterp draws its own
noise: its generator is seeded from ours at each step, so that the kernel stays a pure function.
Positions being displacements from w*, its weight decay is the localising γ.
"""

import warnings
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from llc.errors import InputError, brief
from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, observe

__all__ = ["State", "build"]

STATISTIC = "square_avg"


class State(NamedTuple):
    """Position and devinterp's mean square gradient, both ``(chains, D)``."""

    displacement: Tensor
    square: Tensor


def build(evaluate: Evaluate, numbers: Numbers, *, method: Literal["sgld", "rmsprop"]) -> Kernel:
    """Build the kernel for a posterior's ``evaluate``, its nβ and γ, and step size ε.

    Raises:
        InputError: devinterp cannot be imported.
    """
    make = getattr(_sgmcmc(), "sgld" if method == "sgld" else "rmsprop_sgld")
    n_beta, gamma, step_size = (float(x) for x in numbers[:3])
    optimisers: dict[torch.Size, Any] = {}

    def init(displacement: Tensor) -> State:
        return State(displacement, torch.zeros_like(displacement))

    def one(delta: Tensor, gradient: Tensor, square: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        if delta.shape not in optimisers:
            weights = nn.Parameter(delta.clone())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that nbeta is 1, where it is
                optimisers[delta.shape] = (
                    weights,
                    make([weights], lr=step_size, nbeta=n_beta, weight_decay=gamma),
                )
        weights, optimiser = optimisers[delta.shape]
        with torch.no_grad():
            weights.copy_(delta)
        weights.grad = gradient / n_beta
        optimiser.state[weights][STATISTIC] = square.clone()
        generator = torch.Generator(device=delta.device)
        optimiser.step(noise_generator=generator.manual_seed(seed))
        return weights.detach().clone(), optimiser.state[weights][STATISTIC]

    def step(state: State, batch: Tensor | None, noise: Tensor) -> tuple[State, StepInfo]:
        delta = state.displacement
        evaluation = evaluate(delta, batch)
        seeds = [hash(tuple(row)) & (2**62 - 1) for row in noise[:, :2].tolist()]
        parts = map(one, delta, evaluation.gradient, state.square, seeds)
        moved, square = (torch.stack(column) for column in zip(*parts, strict=True))
        return State(moved, square), observe(evaluation, delta, numbers.gamma)

    return Kernel(init, step, normals=0, extra=2)


def _sgmcmc() -> Any:
    try:
        from devinterp.optim import SGMCMC
    except Exception as error:  # devinterp fails in its own ways where zarr is of another version
        raise InputError(
            f"devinterp cannot be imported ({type(error).__name__}: {brief(error)}): install "
            "devinterp>=2.0.1 with zarr 3.1, or choose another sampler"
        ) from error
    return SGMCMC
