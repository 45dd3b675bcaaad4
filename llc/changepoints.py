"""Plateaus joined by transitions: exact segmentation of a curve whose errors are known.

The curve y_1 … y_N, y_i ± √v_i, is cut into plateaus and transitions. A plateau is at least two
points around one level, whose prior is N(m, A²). A transition is a gap between two plateaus with
any number of points in it, none included, and what is in transition moves: step after step up, or
step after step down, each of a size that is log-uniform between the noise and 2A (no scale
preferred, so that the price of a transition hardly depends on how densely it was sampled). A curve
may begin or end in transition.

A segmentation costs −ln of (prior × likelihood), −ln p for each transition included. One recursion
over the points gives the cheapest of them all (min, +), and with sums in place of minima the
evidence of the whole model (Fearnhead 2006, Stat. Comput. 16:203, for plateaus alone). Every point
is a candidate; nothing is pruned. Cost O(N²).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llc.diagnostics import Array
from llc.errors import InputError

__all__ = [
    "SHORTEST",
    "Scale",
    "Segmentation",
    "evidence",
    "level",
    "plateau_cost",
    "scale_of",
    "segment",
]

SHORTEST = 2
"""Fewest points of a plateau: one point alone cannot be told from a point of a transition."""
SIZES = 12
PRICE = 2.0


@dataclass(frozen=True)
class Scale:
    """What is assumed of a curve before it is cut.

    Attributes:
        mean: m, where levels are expected.
        spread: A, how far they lie apart.
        floor: s, below which steps are not told from noise.
        price: −ln p, what a transition costs.
    """

    mean: float
    spread: float
    floor: float
    price: float


@dataclass(frozen=True)
class Segmentation:
    """Plateaus as half-open ranges of indices; what lies between them is in transition.

    Attributes:
        plateaus: (start, stop) of each, in order.
        points: N.
        cost: −ln(prior × likelihood).
    """

    plateaus: tuple[tuple[int, int], ...]
    points: int
    cost: float


def scale_of(values: Array, variances: Array, price: float | None = None) -> Scale:
    """Choose a `Scale` by the curve itself: its mean, its standard deviation, its errors.

    Args:
        values: y, shape ``(points,)``.
        variances: squared standard errors, same shape.
        price: −ln p; 2 unless given.

    Raises:
        InputError: as for `segment`.
    """
    y, v = _checked(values, variances)
    floor = float(np.sqrt(np.median(v)))
    spread = max(float(y.std()), 3 * floor)
    return Scale(float(y.mean()), spread, floor, PRICE if price is None else price)


def segment(values: Array, variances: Array, scale: Scale | None = None) -> Segmentation:
    """Return the cheapest segmentation.

    Args:
        values: y, shape ``(points,)``.
        variances: squared standard errors, same shape.
        scale: what is assumed beforehand; `scale_of` the curve unless given.

    Raises:
        InputError: fewer than two points, shapes that differ, values that are not finite, or
            variances that are not positive.
    """
    y, v = _checked(values, variances)
    scale = scale_of(y, v) if scale is None else scale
    tables = _tables(y, v, scale)
    count = len(y)
    # Of the first j points, ends[j]: the last is on a plateau; moves[j]: it moves up or down;
    # begin[j]: a plateau may follow.
    ends, begin = np.full(count + 1, np.inf), np.full(count + 1, np.inf)
    moves = np.full((count + 1, 2), np.inf)
    origin = np.zeros(count + 1, int)
    begin[0] = 0.0
    for j in range(1, count + 1):
        into = scale.price + (0.0 if j == 1 else ends[j - 1])
        moves[j] = tables.walk[j - 1] + np.minimum(into, moves[j - 1])
        if j >= SHORTEST:
            total = begin[: j - SHORTEST + 1] + tables.plateau[: j - SHORTEST + 1, j]
            origin[j] = int(total.argmin())
            ends[j] = total[origin[j]]
        begin[j] = min(ends[j] + scale.price, moves[j].min())
    return _traced(ends, moves, origin, scale)


def evidence(values: Array, variances: Array, scale: Scale | None = None) -> float:
    """Return ln of prior × likelihood summed over all segmentations; arguments as for `segment`.

    Raises:
        InputError: as for `segment`.
    """
    y, v = _checked(values, variances)
    scale = scale_of(y, v) if scale is None else scale
    tables = _tables(y, v, scale)
    count = len(y)
    ends, begin = np.full(count + 1, -np.inf), np.full(count + 1, -np.inf)
    moves = np.full((count + 1, 2), -np.inf)
    begin[0] = 0.0
    for j in range(1, count + 1):
        into = -scale.price + (0.0 if j == 1 else ends[j - 1])
        moves[j] = -tables.walk[j - 1] + np.logaddexp(into, moves[j - 1])
        if j >= SHORTEST:
            total = begin[: j - SHORTEST + 1] - tables.plateau[: j - SHORTEST + 1, j]
            ends[j] = np.logaddexp.reduce(total)
        begin[j] = np.logaddexp.reduce([ends[j] - scale.price, *moves[j]])
    return float(np.logaddexp.reduce([ends[count], *moves[count]]))


def plateau_cost(values: Array, variances: Array, scale: Scale) -> float:
    """Return −ln likelihood of one plateau through all points; arguments as for `segment`."""
    y, v = _checked(values, variances)
    return float(_tables(y, v, scale).plateau[0, -1])


def level(values: Array, variances: Array, plateau: tuple[int, int]) -> Array:
    """Return the weighted mean over a plateau, last axis of ``values``: one level a curve."""
    weights = 1 / variances[slice(*plateau)]
    return (values[..., slice(*plateau)] * weights).sum(-1) / weights.sum()


def _checked(values: Array, variances: Array) -> tuple[Array, Array]:
    y, v = np.asarray(values, float), np.asarray(variances, float)
    if y.ndim != 1 or y.shape != v.shape or len(y) < SHORTEST:
        raise InputError(
            f"values have shape {y.shape} and variances {v.shape}, expected one and the same "
            f"number of points, at least {SHORTEST}"
        )
    if not (np.isfinite(y).all() and np.isfinite(v).all() and (v > 0).all()):
        raise InputError("values or variances are not finite, or a variance is not positive")
    return y, v


@dataclass(frozen=True)
class _Tables:
    """Costs: of plateaus [i, j), shape (N + 1, N + 1); of moving up or down to a point, (N, 2)."""

    plateau: Array
    walk: Array


def _tables(y: Array, v: Array, scale: Scale) -> _Tables:
    z = y - scale.mean

    def sums(terms: Array) -> Array:
        total = np.concatenate([[0.0], np.cumsum(terms)])
        return total[None, :] - total[:, None]

    weight, pull = sums(1 / v), sums(z / v)
    shrink = 1 + scale.spread**2 * np.maximum(weight, 0)
    plateau = 0.5 * (
        sums(np.log(2 * np.pi * v) + z**2 / v) + np.log(shrink) - scale.spread**2 * pull**2 / shrink
    )
    # A curve that begins in transition has its first point anywhere, and moves both ways alike.
    wide = scale.spread**2 + v[0]
    anywhere = 0.5 * (math.log(2 * math.pi * wide) + z[0] ** 2 / wide) + math.log(2)
    steps = _step_costs(np.diff(y), np.sqrt(v[1:] + v[:-1]), scale)
    return _Tables(plateau, np.vstack([[anywhere, anywhere], steps]))


def _step_costs(steps: Array, noise: Array, scale: Scale) -> Array:
    """−ln density of steps up and down, shape (N − 1, 2); the two are equally likely."""
    least = np.maximum(noise, scale.floor)[:, None]
    most = np.maximum(2 * scale.spread, 2 * least)
    # Sizes evenly spaced in their logarithm, each blurred to its neighbours and by the noise.
    at = (np.arange(SIZES) + 0.5) / SIZES
    sizes = least * (most / least) ** at
    blur = noise[:, None] ** 2 + (sizes * np.log(most / least) / SIZES) ** 2
    both = []
    for sign in (1, -1):
        off = (sign * steps[:, None] - sizes) ** 2 / blur
        both.append(-np.logaddexp.reduce(-0.5 * (off + np.log(2 * np.pi * blur)), axis=1))
    return np.stack(both, axis=1) + math.log(2 * SIZES)


def _traced(ends: Array, moves: Array, origin: NDArray[np.int_], scale: Scale) -> Segmentation:
    """Walk back from the end of the curve along the choices that were cheapest."""
    count = len(ends) - 1
    cost = float(min(ends[count], moves[count].min()))
    plateaus = []
    # The way of moving, 0 up and 1 down, or None on a plateau.
    way = None if ends[count] <= moves[count].min() else int(moves[count].argmin())
    j = count
    while j > 0:
        if way is None:
            i = int(origin[j])
            plateaus.append((i, j))
            j = i
            way = None if ends[j] + scale.price <= moves[j].min() else int(moves[j].argmin())
        else:
            j -= 1
            way = None if ends[j] + scale.price <= moves[j, way] else way
    return Segmentation(tuple(plateaus[::-1]), count, cost)
