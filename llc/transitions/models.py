"""Three models of one curve on one scale: constant, smooth, jumps; which of them explains it.

All share the errors v_i = σ_i² + τ²ȳ_i², ȳ_i the median of |y| over five neighbours: σ_i is what
the estimate says, τ a relative jitter (real plateaus drift by a percent or so) that every model
averages over the same few values of, small ones preferred. Log evidences then compare as they are.
"""

from dataclasses import dataclass

import numpy as np

from llc.changepoints import Scale, Segmentation, evidence, plateau_cost, scale_of, segment
from llc.diagnostics import Array
from llc.smoothing import Smooth, smooth

__all__ = ["Fit", "fit"]

JITTERS = (0.0, 0.005, 0.01, 0.02, 0.04)
JITTER_PRIORS = (0.4, 0.3, 0.15, 0.1, 0.05)
AROUND = 2


@dataclass(frozen=True)
class Fit:
    """Models of a curve, each at its likeliest jitter.

    Attributes:
        evidence: ln evidence of ``"constant"``, ``"smooth"`` and ``"jumps"``.
        segmentation: the cheapest one.
        scale: what it was cut with.
        variances: v of the jump model, shape ``(points,)``.
        jitter: τ of the jump model.
        smooth: the smooth curve, at the jitter likeliest for it.
    """

    evidence: dict[str, float]
    segmentation: Segmentation
    scale: Scale
    variances: Array
    jitter: float
    smooth: Smooth


def fit(places: Array, values: Array, errors: Array) -> Fit:
    """Fit all three models.

    Args:
        places: ln step, rising, shape ``(points,)``.
        values: LLC, same shape.
        errors: its standard errors, same shape, positive.
    """
    height = local_height(values)
    # One scale for all jitters and models: what is assumed must not depend on what is compared.
    scale = scale_of(values, errors**2)
    rows = []
    for jitter, prior in zip(JITTERS, JITTER_PRIORS, strict=True):
        variances = errors**2 + (jitter * height) ** 2
        curve = smooth(places, values, variances, scale)
        constant = -plateau_cost(values, variances, scale)
        jumps = evidence(values, variances, scale)
        rows.append((variances, curve, np.log(prior) + np.array([constant, curve.evidence, jumps])))
    table = np.array([row[2] for row in rows])
    best = table.argmax(0)
    total = dict(zip(("constant", "smooth", "jumps"), np.logaddexp.reduce(table, 0), strict=True))
    variances = rows[best[2]][0]
    return Fit(
        {name: float(value) for name, value in total.items()},
        segment(values, variances, scale),
        scale,
        variances,
        JITTERS[best[2]],
        rows[best[1]][1],
    )


def local_height(values: Array) -> Array:
    """Median of |y| over five neighbours, shape ``(points,)``."""
    padded = np.pad(np.abs(values), AROUND, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)
    return np.median(windows, axis=1)
