"""Losses and gradients that are nan or infinite at w*, told as what they are."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llc.diagnostics import EXPLODED
from llc.errors import InputError
from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.chains import Draws, Streams
from llc.surface import Evaluation, LossSurface

__all__ = ["check_batches", "check_evaluation", "met_nan"]

MOST_LOOKS = 1024


def check_evaluation(surface: LossSurface, found: Evaluation, batch: Tensor | None) -> None:
    """Refuse what chains found at w* itself where it is no number.

    Args:
        surface: the loss around w*.
        found: an evaluation of all chains at w*.
        batch: the examples it was made on, ``(chains, batch)``; None for all.

    Raises:
        InputError: whether loss or gradient, and what gives such values.
    """
    slope = found.gradient.sum(1, dtype=torch.promote_types(found.gradient.dtype, torch.float32))
    fine = found.rise.isfinite() & slope.isfinite()
    for chain in torch.nonzero(~fine)[:, 0].tolist():
        row = None if batch is None else batch[chain]
        _refuse(surface, found.rise[chain], found.gradient[chain], row)


def check_batches(posterior: Posterior, streams: Streams, spent: int) -> None:
    """Look for batches whose loss or gradient is no number at w*, once chains have met nan.

    Args:
        posterior: what is sampled.
        streams: with the size of batches.
        spent: gradients so far; no more batches than that are looked at.

    Raises:
        InputError: as `check_evaluation`.
    """
    surface, here = posterior.surface, posterior.start(1)
    nothing = torch.zeros(1, dtype=here.dtype, device=here.device)
    _refuse(surface, nothing, surface.full_gradient(), None)
    if not streams.batch_size:
        return
    batches = NoiseStreams(0, "batches at w*", 1, surface.device)
    for _ in range(min(spent, MOST_LOOKS)):
        batch = batches.integers(streams.size, streams.batch_size)
        _refuse(surface, surface.rise(here, batch), here[0], batch[0])


def met_nan(draws: Draws, dimension: int, *, at_first: bool = True) -> NDArray[np.bool_]:
    """Which chains met nan where they should be, rather than run away first, ``(chains,)``.

    Args:
        draws: of the chains.
        dimension: D.
        at_first: whether nan in the first draw counts: not if nobody knows what was before.
    """
    there = np.stack([draws.rise, draws.pull, draws.spread])
    with np.errstate(invalid="ignore", over="ignore"):
        lost = ~np.isfinite(there.sum(0))
    first, chains = lost.argmax(1), np.arange(len(draws.rise))
    before = np.where(np.arange(draws.length) < first[:, None], draws.spread, 0.0)
    local = (before <= EXPLODED * dimension).all(axis=1)
    infinite = np.isinf(there[:, chains, first]).any(axis=0)
    return lost.any(axis=1) & local & ~infinite & (at_first | (first > 0))


def _refuse(surface: LossSurface, rise: Tensor, gradient: Tensor, row: Tensor | None) -> None:
    whose = "over all data" if row is None else f"of a batch of {len(row)} examples"
    whose = "" if surface.size is None else f" {whose}"
    if not bool(rise.isfinite().all()):
        value = surface.loss_at_start(row)
        raise InputError(
            f"the loss{whose} is {math.nan if math.isfinite(value) else value} at w*, though "
            f"over all data it is {surface.baseline:.4g}: a mean over targets of which the batch "
            "holds none is 0/0; return one value per example, 0 where there is no target, or give "
            "a larger batch_size"
        )
    if not bool(gradient.isfinite().all()):
        value = "nan" if bool(gradient.isnan().any()) else "infinite"
        raise InputError(
            f"the gradient of the loss{whose} is {value} at w*, though the loss is finite: the "
            "derivative of a square root, a norm or a logarithm at 0 is infinite; add a small "
            "number inside it, or scale data that are too large for their precision"
        )
