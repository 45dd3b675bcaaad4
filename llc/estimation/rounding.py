"""What half precision adds to an estimate: passes where the chains ended, against float32."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.run import Samples

__all__ = ["rounding"]

Precise = Callable[[Tensor, Tensor | None], float]

SCALES = (1.0, -1.0, 0.95, -0.95, 0.9, -0.9, 0.85, -0.85)
"""Places a chain, on the line through w* and its end: each is rounded by itself."""
MOST_PLACES = 64
SHARE = 250
REACH = 0.05
FOURTH = (1.0, -4.0, 6.0, -4.0, 1.0)


def rounding(posterior: Posterior, samples: Samples, chains: slice = slice(None)) -> float:
    """What half precision adds to λ̂, in LLC units; 0 where none takes part.

    With X and V = δ·∇X as the chains see them, X = nβ(L − L(w*)), and X₁, V₁ without half
    precision at the same places, means over these: chains that follow a rounded gradient spread
    until V + γ‖δ‖² is D, and in a quadratic X₁/(1 + v), v = (V₁ − V)/D, is what they would give
    without. λ̂ is larger by X − X₁ and by X₁v/(1 + v).

    Costs about 1 % of the run's gradients. Where the model cannot do without half precision the
    size of the error stands for it: fourth differences of X along lines through w*, which for a
    smooth loss are nothing, over √70.

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
    wanted = min(MOST_PLACES, max(len(ends), samples.evaluations // SHARE))
    places = [scale * end for scale in SCALES for end in ends][:wanted]
    stream = NoiseStreams(0, "rounding batches", 1, surface.device)
    minibatch = samples.batch_size is not None and surface.size is not None
    rows = [
        stream.integers(surface.size, samples.batch_size)[0] if minibatch else None for _ in places
    ]
    try:
        precise = surface.precise_rise()
        pairs = [
            _compared(posterior, precise, place, row)
            for place, row in zip(places, rows, strict=True)
        ]
    except Exception:  # whatever a model raises whose casts are undone
        return _roughness(posterior, places[: len(ends)], rows)
    rise, pull = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    without = float(samples.draws.rise[~samples.diverged].mean()) - rise
    hotter = max(pull / posterior.dimension, -0.5)
    return rise + without * hotter / (1 + hotter)


def _compared(
    posterior: Posterior, precise: Precise, place: Tensor, row: Tensor | None
) -> tuple[float, float]:
    """X − X₁ and V₁ − V at a place."""
    found = posterior.surface.evaluate(place[None], None if row is None else row[None])
    rise, pull = float(found.rise), float(found.gradient[0] @ place)
    ahead, behind = (precise(scale * place, row) for scale in (1 + REACH, 1 - REACH))
    off = (ahead - behind) / (2 * REACH) - pull
    return posterior.n_beta * (rise - precise(place, row)), posterior.n_beta * off


def _roughness(posterior: Posterior, places: list[Tensor], rows: list[Tensor | None]) -> float:
    total, surface = 0.0, posterior.surface
    for place, row in zip(places, rows, strict=False):
        batch = None if row is None else row[None]
        scales = (1 + REACH * k for k in range(len(FOURTH)))
        line = [float(surface.rise(scale * place[None], batch)) for scale in scales]
        total += sum(c * value for c, value in zip(FOURTH, line, strict=True)) ** 2
    norm = sum(c * c for c in FOURTH) * len(places)
    return posterior.n_beta * math.sqrt(total / norm)
