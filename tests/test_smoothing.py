"""The smooth curve is the Gaussian process it says it is."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from llc.changepoints import Scale
from llc.smoothing import AMPLITUDES, LENGTHS, _matern, smooth

SCALE = Scale(1.0, 2.0, 0.1, 2.0)
X = np.linspace(0, 4, 25)
V = np.full(25, 0.01)
Y = 1 + np.sin(X) + 0.1 * np.random.default_rng(0).normal(size=25)


def test_the_curve_and_its_slope_are_recovered():
    fit = smooth(X, Y, V, SCALE)
    z = (fit.mean - 1 - np.sin(X)) / fit.sd
    assert (z**2).mean() < 2
    steep = (fit.slope - np.cos(X)) / fit.slope_sd
    assert (steep**2).mean() < 2
    assert 0.02 < fit.sd.mean() < 0.1


def test_the_slope_is_the_curve_s_derivative():
    fine = np.sort(np.concatenate([X, X[12:13] + 1e-4]))
    # A point of no weight beside the thirteenth, to take a difference with.
    y, v = np.insert(Y, 13, 0.0), np.insert(V, 13, 1e8)
    fit = smooth(fine, y, v, SCALE)
    difference = (fit.mean[13] - fit.mean[12]) / 1e-4
    assert fit.slope[12] == pytest.approx(difference, rel=1e-3)


def test_covariances_of_slopes_are_derivatives():
    h = 1e-4
    places = np.array([0.0, h, 0.7])
    cover, slope, curvature = _matern(places, 0.9)
    assert slope[0, 2] == pytest.approx((cover[1, 2] - cover[0, 2]) / h, rel=1e-3)
    assert slope[2, 0] == pytest.approx(-slope[0, 2])
    assert curvature == pytest.approx(2 * (1 - cover[0, 1]) / h**2, rel=1e-3)


def test_the_evidence_is_the_mean_likelihood_over_the_grid():
    fit = smooth(X, Y, V, SCALE)
    gap, span = X[1] - X[0], X[-1] - X[0]
    logs = []
    for length in np.geomspace(gap, 3 * span, LENGTHS):
        for a in AMPLITUDES:
            cov = _matern(X, length)[0] * (a * 2.0) ** 2 + 4 + np.diag(V)
            logs.append(multivariate_normal(np.full(25, 1.0), cov).logpdf(Y))
    assert fit.evidence == pytest.approx(np.logaddexp.reduce(logs) - np.log(len(logs)))
    best = int(np.argmax(logs))
    assert fit.amplitude == pytest.approx(2 * AMPLITUDES[best % len(AMPLITUDES)])
