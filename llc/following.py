"""Chains of an estimate that go on, and single examples' losses along them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llc.errors import InputError
from llc.estimation import Estimate
from llc.params import stream_seed
from llc.sampling.chains import advance
from llc.sampling.walk import Start

__all__ = ["choose_examples", "follow_losses"]


def choose_examples(size: int, examples: int, seed: int) -> Tensor:
    """Return indices of so many examples at most, drawn at random and in order."""
    if size <= examples:
        return torch.arange(size)
    generator = torch.Generator().manual_seed(stream_seed(seed, "examples", 0))
    return torch.randperm(size, generator=generator)[:examples].sort().values


def follow_losses(
    losses: Callable[[Tensor], Tensor], start: Start, estimate: Estimate, size: int, looks: int
) -> Tensor:
    """Go on from where the chains are, and look about one effective draw apart.

    Args:
        losses: of single examples at a displacement, ``(D,)`` → ``(size,)``.
        start: where the chains are.
        estimate: that they made.
        size: number of examples.
        looks: positions a chain.

    Returns:
        Losses of examples, ``(chains, looks, size)``, of the chains that stayed finite.

    Raises:
        InputError: none did.
    """
    chains = len(start.state.displacement)
    kept = [c for c in range(chains) if c not in estimate.diverged]
    apart = max(1, math.ceil(estimate.trace[kept].size / estimate.ess))
    kernel = start.stepper.kernel(start.tuning, chains)
    state = start.state
    found = torch.empty((len(kept), looks, size), dtype=torch.float64)
    for look in range(looks):
        state, _ = advance(kernel, state, start.streams, apart)
        for row, chain in enumerate(kept):
            found[row, look] = losses(state.displacement[chain])
    stayed = found.isfinite().all(2).all(1)
    if not stayed.any():
        raise InputError("all chains left for infinity while examples were followed: raise gamma")
    return found[stayed]
