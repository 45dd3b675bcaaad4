"""Three models of one curve on one scale: constant, smooth, jumps; which of them explains it.

All share the errors v_i = σ_i² + τ²ȳ_i², ȳ_i the median of |y| over five neighbours: σ_i is what
the estimate says, τ a relative jitter (real plateaus drift by a percent or so) that every model
averages over the same few values of, small ones preferred. Log evidences then compare as they are.

Smooth in which clock? Training early and late runs at different speeds, and a fall that is slow in
steps is steep in ln step. The smooth model averages over ln step and step^p, p = ¼, ½ and 1.
"""

from dataclasses import dataclass, replace

import numpy as np

from llc.changepoints import Scale, Segmentation, evidence, plateau_cost, scale_of, segment
from llc.diagnostics import Array
from llc.smoothing import Smooth, smooth

__all__ = ["Fit", "fit"]

JITTERS = (0.0, 0.005, 0.01, 0.02, 0.04)
JITTER_PRIORS = (0.4, 0.3, 0.15, 0.1, 0.05)
AROUND = 2
POWERS = (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Fit:
    """Models of a curve, each at its likeliest jitter.

    Attributes:
        evidence: ln evidence of ``"constant"``, ``"smooth"`` and ``"jumps"``.
        segmentation: the cheapest one.
        scale: what it was cut with.
        variances: v of the jump model, shape ``(points,)``.
        jitter: τ of the jump model.
        smooth: the smooth curve, at the jitter and the clock likeliest for it; its slope is that
            against ln step.
        clock: p of that clock, 0 for ln step.
    """

    evidence: dict[str, float]
    segmentation: Segmentation
    scale: Scale
    variances: Array
    jitter: float
    smooth: Smooth
    clock: float


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
        clock, curve = _smooth_in_some_clock(places, values, variances, scale)
        constant = -plateau_cost(values, variances, scale)
        jumps = evidence(values, variances, scale)
        rows.append(
            (variances, curve, clock, np.log(prior) + np.array([constant, curve.evidence, jumps]))
        )
    table = np.array([row[3] for row in rows])
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
        rows[best[1]][2],
    )


def _smooth_in_some_clock(
    places: Array, values: Array, variances: Array, scale: Scale
) -> tuple[float, Smooth]:
    """The likeliest clock with its curve, whose evidence is the mean over all clocks."""
    curves = []
    for power in POWERS:
        # Relative to the last step, lest a power overflow.
        speed = np.exp(power * (places - places[-1]))
        curve = smooth(speed / power if power else places, values, variances, scale)
        slopes = {"slope": curve.slope * speed, "slope_sd": curve.slope_sd * speed}
        curves.append((curve.evidence, power, replace(curve, **slopes)))
    total = float(np.logaddexp.reduce([c[0] for c in curves])) - np.log(len(curves))
    _, power, best = max(curves, key=lambda c: c[0])
    return power, replace(best, evidence=total)


def local_height(values: Array) -> Array:
    """Median of |y| over five neighbours, shape ``(points,)``."""
    padded = np.pad(np.abs(values), AROUND, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)
    return np.median(windows, axis=1)
