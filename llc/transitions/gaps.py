"""Plateaus that are significantly apart, and the transitions between them, with their errors."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llc.changepoints import Segmentation, level, segment
from llc.diagnostics import Array
from llc.transitions.models import Fit, local_height
from llc.transitions.result import Kind, Plateau, Transition

__all__ = ["SIGNIFICANT", "describe", "sift", "transitions"]

SIGNIFICANT = 4.0
SUPPORT = 0.5
TAIL = 0.05
LEAST_DRIFT = 0.005
TINY = 1e-300

Gap = tuple[int, int]
"""Indices of the last point before a transition and the first after it."""


def sift(
    fitted: Fit, values: Array, resampled: Array, sound: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Merge plateaus whose levels are not significantly apart, the least significant first."""
    plateaus = [p for p in fitted.segmentation.plateaus if sound[slice(*p)].any()]
    while len(plateaus) > 1:
        scores = [
            abs(jump) / max(error, TINY)
            for jump, error in (
                _height(values, resampled, fitted, a, b) for a, b in pairwise(plateaus)
            )
        ]
        weakest = int(np.argmin(scores))
        if scores[weakest] >= SIGNIFICANT:
            break
        plateaus[weakest : weakest + 2] = [(plateaus[weakest][0], plateaus[weakest + 1][1])]
    return plateaus


def _height(
    values: Array, resampled: Array, fitted: Fit, before: tuple[int, int], after: tuple[int, int]
) -> tuple[float, float]:
    """Difference of two levels and its standard error."""
    jump = float(level(values, fitted.variances, after) - level(values, fitted.variances, before))
    moved = level(resampled, fitted.variances, after) - level(resampled, fitted.variances, before)
    drift = _drift(values, fitted, before) ** 2 + _drift(values, fitted, after) ** 2
    return jump, float(np.sqrt(moved.var() + drift))


def _drift(values: Array, fitted: Fit, plateau: tuple[int, int]) -> float:
    """What drift adds to a level's error: the jitter, and half a percent where none was seen.

    Not averaged down, since drift is no white noise.
    """
    drift = max(fitted.jitter, LEAST_DRIFT)
    return drift * float(local_height(values)[slice(*plateau)].mean())


def _gaps(plateaus: list[tuple[int, int]], count: int) -> list[Gap]:
    """Where transitions lie: between plateaus, and at the ends where the curve is on none."""
    if not plateaus:
        return []
    inner = [(a[1] - 1, b[0]) for a, b in pairwise(plateaus)]
    first, last = plateaus[0][0], plateaus[-1][1]
    return [
        *([(0, first)] if first > 0 else []),
        *inner,
        *([(last - 1, count - 1)] if last < count else []),
    ]


def transitions(
    fitted: Fit,
    places: Array,
    values: Array,
    errors: Array,
    resampled: Array,
    plateaus: list[tuple[int, int]],
    sound: NDArray[np.bool_],
) -> list[Transition]:
    """Return what lies between plateaus, as far as it is significant and found in most resamples.

    Args:
        fitted: the models.
        places: ln step, shape ``(points,)``.
        values: LLC, same shape.
        errors: its standard errors, same shape.
        resampled: deviations, shape ``(resamples, points)``.
        plateaus: half-open ranges of indices.
        sound: points whose estimates did not fail, shape ``(points,)``.
    """
    gaps = _gaps(plateaus, len(values))
    # A resampled curve has the errors of the estimates and those of the resampling.
    wider = fitted.variances + errors**2
    cuts = [segment(values + moved, wider, fitted.scale) for moved in resampled]
    found = []
    for gap in gaps:
        jump, error = _jump(values, resampled, fitted, plateaus, gap)
        inner = any(gap == (a[1] - 1, b[0]) for a, b in pairwise(plateaus))
        off_plateau = sound[gap[0] : gap[1]] if gap[0] == 0 else sound[gap[0] + 1 : gap[1] + 1]
        if abs(jump) < SIGNIFICANT * error or not (inner or off_plateau.any()):
            continue
        near = [
            _matching(cut, values + moved, gap, jump)
            for cut, moved in zip(cuts, resampled, strict=True)
        ]
        ends = np.array([places[list(other)] for other in near if other is not None]).reshape(-1, 2)
        support = len(ends) / len(near)
        if support < SUPPORT:
            continue
        low = min(places[gap[0]], float(np.quantile(ends[:, 0], TAIL)))
        high = max(places[gap[1]], float(np.quantile(ends[:, 1], 1 - TAIL)))
        kind: Kind = ("up" if jump > 0 else "down") if inner else "plateau edge"
        found.append(
            Transition(
                float(np.exp(_half_way(places, values, gap))),
                (float(np.exp(low)), float(np.exp(high))),
                jump,
                error,
                kind,
                support,
            )
        )
    return found


def _jump(
    values: Array, resampled: Array, fitted: Fit, plateaus: list[tuple[int, int]], gap: Gap
) -> tuple[float, float]:
    """Height across a gap; at an end of the curve, from its outermost point."""
    before = next((p for p in plateaus if p[1] - 1 == gap[0]), (gap[0], gap[0] + 1))
    after = next((p for p in plateaus if p[0] == gap[1]), (gap[1], gap[1] + 1))
    return _height(values, resampled, fitted, before, after)


def _matching(cut: Segmentation, values: Array, gap: Gap, jump: float) -> Gap | None:
    """The transition of a resample that overlaps or touches a gap and goes the same way."""
    for other in _gaps(list(cut.plateaus), len(values)):
        same_way = (values[other[1]] - values[other[0]]) * jump > 0
        if same_way and min(other[1], gap[1]) >= max(other[0], gap[0]):
            return other
    return None


def _half_way(places: Array, values: Array, gap: Gap) -> float:
    """Where the curve crosses the middle between the gap's ends, linear between checkpoints."""
    first, last = gap
    half = (values[first] + values[last]) / 2
    side = np.sign(values[first : last + 1] - half)
    k = first + int(np.argmax(side[1:] != side[0]))
    share = (half - values[k]) / (values[k + 1] - values[k])
    return float(places[k] + np.clip(share, 0, 1) * (places[k + 1] - places[k]))


def describe(
    plateau: tuple[int, int], steps: Array, values: Array, fitted: Fit, resampled: Array
) -> Plateau:
    """Return a plateau in steps, with its level and that one's standard error."""
    error = float(level(resampled, fitted.variances, plateau).std())
    total = float(np.hypot(error, _drift(values, fitted, plateau)))
    height = float(level(values, fitted.variances, plateau))
    return Plateau(float(steps[plateau[0]]), float(steps[plateau[1] - 1]), height, total)
