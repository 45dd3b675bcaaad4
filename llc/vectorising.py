"""Whether chains of a model can be evaluated side by side: tried, and held against the loop."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from llc.objective import Objective
from llc.params import NoiseStreams
from llc.soundness import PROBE

__all__ = ["why_not_vectorised"]

Values = tuple[Tensor, Tensor, Tensor]


def why_not_vectorised(
    one: Callable[[Tensor, Tensor | None], Values],
    many: Callable[[Tensor, Tensor | None], Values],
    rise_of_many: Callable[[Tensor, Tensor | None], Tensor],
    objective: Objective,
) -> str | None:
    """Compare two chains under vmap with the plain loop on a few examples.

    Args:
        one: rise, its noise and gradient of one chain.
        many: the same of several in one call.
        rise_of_many: their rises alone.
        objective: whose they are.

    Returns:
        What stands against side by side, or None.
    """
    index = None
    if objective.size is not None:
        count = min(objective.size, PROBE, objective.chunk)
        index = torch.arange(count, device=objective.device).expand(2, -1)
    # Off the centre, where a behavioural loss has a gradient, and apart from each other.
    noise = NoiseStreams(0, "vmap", 2, objective.device)
    delta = 0.01 * noise.normal(objective.layout.total, objective.layout.dtype)
    rows = [None, None] if index is None else list(index)
    rise, _, gradient = map(torch.stack, zip(*map(one, delta, rows), strict=True))
    try:
        with warnings.catch_warnings():
            # Where an operation has no batching rule torch warns and loops by itself, at
            # the price of the plain loop and more memory.
            warnings.filterwarnings("error", message="There is a performance drop")
            stacked_rise, _, stacked_gradient = many(delta, index)
            alone = rise_of_many(delta, index)
    except Exception as error:  # whatever a model raises, the loop serves
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    # Half precision rounds differently in batches; chains mixed up would differ by far more.
    loose = 0.05 if objective.is_half else 1e-3
    # A rise is a difference of losses, and rounds as they do.
    scale = abs(objective.baseline.mean)
    pairs = [
        (stacked_gradient, gradient, 0.0), (stacked_rise, rise, scale), (alone, rise, scale),
    ]  # fmt: skip
    for got, expected, size in pairs:
        # A loss may turn nan or infinite this far from w*: so it has to on both ways.
        known = expected[expected.isfinite()].abs()
        largest = known.max().item() if known.numel() else 0.0
        tolerance = loose * max(largest, size) + 1e-6
        if not torch.allclose(got, expected, rtol=loose, atol=tolerance, equal_nan=True):
            return "values under vmap differ from those of the plain loop"
    return None
