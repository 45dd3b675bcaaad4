"""What half precision adds to an estimate: rises at the chains' places, against float32's."""

import math

import torch
from torch import Tensor

from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.run import Samples

__all__ = ["rounding"]

SCALES = (1.0, 0.97, 0.94, 0.91)
"""Places a chain, along the way from w* to where it ended: each is rounded by itself."""
MOST_PLACES = 16
SHARE = 200
FINE = 0.01
FOURTH = (1.0, -4.0, 6.0, -4.0, 1.0)


def rounding(posterior: Posterior, samples: Samples, chains: slice = slice(None)) -> float:
    """Mean of nβ(L − L(w*)) less the same without half precision; 0 where none takes part.

    At up to 16 places near the chains' ends, for about one gradient in 200 of the run. Where the
    model cannot do without half precision it is the size of the error instead: fourth differences
    of nβ(L − L(w*)) along a line, which for a smooth loss are nothing, over √70.

    Args:
        posterior: what was sampled.
        samples: its draws.
        chains: whose they are among the chains of the run.
    """
    surface = posterior.surface
    if not surface.rounds:
        return 0.0
    ends = samples.end.state.displacement[chains][torch.as_tensor(~samples.diverged)]
    if not len(ends) or not ends.isfinite().all():
        return math.nan
    wanted = min(MOST_PLACES, max(len(SCALES), samples.evaluations // SHARE))
    places = [scale * end for scale in SCALES for end in ends][:wanted]
    stream = NoiseStreams(0, "rounding batches", 1, surface.device)

    def rows() -> Tensor | None:
        if samples.batch_size is None or surface.size is None:
            return None
        return stream.integers(surface.size, samples.batch_size)[0]

    def rise(place: Tensor, row: Tensor | None) -> float:
        return float(surface.rise(place[None], None if row is None else row[None]))

    try:
        precise = surface.precise_rise()
        batches = [rows() for _ in places]
        off = [rise(p, row) - precise(p, row) for p, row in zip(places, batches, strict=True)]
        return posterior.n_beta * sum(off) / len(off)
    except Exception:  # whatever a model raises whose casts are undone
        row, total = rows(), 0.0
        for place in places[: len(ends)]:
            line = [rise((1 + FINE * k) * place, row) for k in range(len(FOURTH))]
            total += sum(c * value for c, value in zip(FOURTH, line, strict=True)) ** 2
        norm = sum(c * c for c in FOURTH) * len(places[: len(ends)])
        return posterior.n_beta * math.sqrt(total / norm)
