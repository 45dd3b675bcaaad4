"""What rounding adds to an estimate: passes where the chains ended, against more precise ones."""

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
MOST_PLACES, MOST_IN_SINGLE = 64, 8
# A place costs about three gradients, a half of them in float64.
SHARE, SHARE_IN_SINGLE = 250, 1000
LEAST_IN_SINGLE = 4
MOST_WEIGHTS_IN_SINGLE = 2**20
NEGLIGIBLE = 0.02
REACH = 0.01
FOURTH = (1.0, -4.0, 6.0, -4.0, 1.0)
REACH_OF_FOURTH = 0.05


def rounding(posterior: Posterior, samples: Samples, chains: slice = slice(None)) -> float:
    """What rounding adds to λ̂, in LLC units.

    With X and V = δ·∇X as the chains see them, X = nβ(L − L(w*)), and X₁, V₁ in float64 at the same
    places, means over these: chains that follow a rounded gradient spread until V + γ‖δ‖² is D, and
    in a quadratic X₁/(1 + v), v = (V₁ − V)/D, is what they would give without. λ̂ is larger by
    X − X₁ and by X₁v/(1 + v).

    Costs up to about 1 % of the run's gradients. Where a model with half precision in it cannot do
    without, the size of the error stands for it: fourth differences of X along lines through w*,
    which for a smooth loss are nothing, over √70. In single precision what is below 2 % of λ̂ is
    left out, and so are models that do not run in float64, large ones, and short runs unless λ̂ is
    negative.

    Args:
        posterior: what was sampled.
        samples: its draws.
        chains: whose they are among the chains of the run.
    """
    surface, single = posterior.surface, not posterior.surface.rounds
    kept = samples.draws.rise[~samples.diverged]
    llc = float(kept.mean()) if kept.size else math.nan
    ends = samples.end.state.displacement[chains][torch.as_tensor(~samples.diverged)]
    wanted = min(MOST_PLACES, max(len(ends), samples.evaluations // SHARE))
    if single:
        wanted = min(MOST_IN_SINGLE, samples.evaluations // SHARE_IN_SINGLE)
        if llc < 0:  # a number that needs an explanation is worth a few gradients more
            wanted = max(wanted, LEAST_IN_SINGLE)
        small = sum(t.numel() for t in surface.buffers()) + posterior.dimension
        double = surface.layout.dtype == torch.float64
        if double or wanted < LEAST_IN_SINGLE or small > MOST_WEIGHTS_IN_SINGLE:
            return 0.0
    if not len(ends) or not ends.isfinite().all():
        return 0.0 if single else math.nan
    places = [scale * end for scale in SCALES for end in ends][:wanted]
    stream = NoiseStreams(0, "rounding batches", 1, surface.device)
    rows = [_row(stream, samples.batch_size, surface.size) for _ in places]
    for dtype in (torch.float64,) if single else (torch.float64, torch.float32):
        try:
            precise = surface.precise_rise(dtype)
            pairs = [
                _compared(posterior, precise, place, row)
                for place, row in zip(places, rows, strict=True)
            ]
        except Exception:  # whatever a model raises that is made for one precision
            continue
        found = _excess(pairs, llc, posterior.dimension)
        return 0.0 if single and not abs(found) > NEGLIGIBLE * abs(llc) else found
    return 0.0 if single else _roughness(posterior, places[: len(ends)], rows)


def _row(stream: NoiseStreams, batch_size: int | None, size: int | None) -> Tensor | None:
    if batch_size is None or size is None:
        return None
    return stream.integers(size, batch_size)[0]


def _compared(
    posterior: Posterior, precise: Precise, place: Tensor, row: Tensor | None
) -> tuple[float, float]:
    """X − X₁ and V₁ − V at a place."""
    found = posterior.surface.evaluate(place[None], None if row is None else row[None])
    rise, pull = float(found.rise), float(found.gradient[0] @ place)
    ahead, behind = (precise(scale * place.double(), row) for scale in (1 + REACH, 1 - REACH))
    off = (ahead - behind) / (2 * REACH) - pull
    return posterior.n_beta * (rise - precise(place, row)), posterior.n_beta * off


def _excess(pairs: list[tuple[float, float]], llc: float, dimension: int) -> float:
    rise, pull = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    hotter = max(pull / dimension, -0.5)
    return rise + (llc - rise) * hotter / (1 + hotter)


def _roughness(posterior: Posterior, places: list[Tensor], rows: list[Tensor | None]) -> float:
    total, surface = 0.0, posterior.surface
    for place, row in zip(places, rows, strict=False):
        batch = None if row is None else row[None]
        scales = (1 + REACH_OF_FOURTH * k for k in range(len(FOURTH)))
        line = [float(surface.rise(scale * place[None], batch)) for scale in scales]
        total += sum(c * value for c, value in zip(FOURTH, line, strict=True)) ** 2
    norm = sum(c * c for c in FOURTH) * len(places)
    return posterior.n_beta * math.sqrt(total / norm)
