"""A smooth curve through values with known errors, and its slope: Gaussian-process regression.

y_i = f(x_i) + e_i, e_i ~ N(0, v_i), f = c + g with c ~ N(m, A²) and g of covariance
s²(1 + u + u²/3)e^−u, u = √5|x − x'|/ℓ (Matérn 5/2: twice differentiable). Amplitude s and length ℓ
are those of largest marginal likelihood on a grid; the evidence of the model is the mean of that
likelihood over the grid (Rasmussen & Williams 2006, ch. 2, 5 and 9.4).
"""

import math
from dataclasses import dataclass

import numpy as np

from llc.changepoints import Scale
from llc.diagnostics import Array

__all__ = ["Smooth", "smooth"]

AMPLITUDES = np.geomspace(0.03, 3.0, 6)
LENGTHS = 8
ROOT5 = math.sqrt(5)


@dataclass(frozen=True)
class Smooth:
    """The posterior of a curve at given places.

    Attributes:
        mean: of the curve, shape ``(points,)``.
        sd: its standard deviation.
        slope: mean of df/dx.
        slope_sd: its standard deviation.
        length: ℓ, in units of x.
        amplitude: s.
        evidence: ln of the marginal likelihood averaged over the grid.
    """

    mean: Array
    sd: Array
    slope: Array
    slope_sd: Array
    length: float
    amplitude: float
    evidence: float


def smooth(places: Array, values: Array, variances: Array, scale: Scale) -> Smooth:
    """Fit the curve.

    Args:
        places: x, rising, shape ``(points,)``.
        values: y, same shape.
        variances: squared standard errors, same shape.
        scale: m and A.
    """
    z = values - scale.mean
    gaps = np.diff(places)
    span = float(places[-1] - places[0])
    # Shorter lengths than the sampling resolves would be noise by another name.
    lengths = np.geomspace(max(float(np.median(gaps)), span / 200), 3 * span, LENGTHS)
    found = []
    for length in lengths:
        shape = _matern(places, length)[0]
        for size in AMPLITUDES * scale.spread:
            noisy = shape * size**2 + scale.spread**2
            noisy[np.diag_indices_from(noisy)] += variances
            found.append((_likelihood(noisy, z), float(size), float(length)))
    evidence = float(np.logaddexp.reduce([f[0] for f in found])) - math.log(len(found))
    _, amplitude, length = max(found)
    shape, slope, curvature = _matern(places, length)
    prior = shape * amplitude**2 + scale.spread**2
    noisy = prior + np.diag(variances)
    cross = slope * amplitude**2
    weights = np.linalg.solve(noisy, np.column_stack([z, prior, cross.T]))
    pull, by_curve, by_slope = weights[:, 0], weights[:, 1 : len(z) + 1], weights[:, len(z) + 1 :]
    left = prior.diagonal() - np.einsum("ij,ji->i", prior, by_curve)
    steep = curvature * amplitude**2 - np.einsum("ij,ji->i", cross, by_slope)
    return Smooth(
        scale.mean + prior @ pull,
        np.sqrt(np.maximum(left, 0)),
        cross @ pull,
        np.sqrt(np.maximum(steep, 0)),
        length,
        amplitude,
        evidence,
    )


def _matern(places: Array, length: float) -> tuple[Array, Array, float]:
    """Covariance of f with f, of f' with f (first index the slope's), variance of f'; s = 1."""
    apart = places[:, None] - places[None, :]
    u = ROOT5 * np.abs(apart) / length
    fall = np.exp(-u)
    slope = -(5 / 3) * apart / length**2 * (1 + u) * fall
    return (1 + u + u**2 / 3) * fall, slope, 5 / 3 / length**2


def _likelihood(covariance: Array, z: Array) -> float:
    """Log density of z under N(0, covariance), which is overwritten."""
    from scipy.linalg import cholesky, solve_triangular

    root = np.asarray(cholesky(covariance, lower=True, overwrite_a=True, check_finite=False))
    white = np.asarray(solve_triangular(root, z, lower=True, check_finite=False))
    constant = 0.5 * len(z) * math.log(2 * math.pi)
    return float(-0.5 * white @ white - np.log(root.diagonal()).sum()) - constant
