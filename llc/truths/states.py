"""Density of states: how ln K is distributed under the localising prior.

With p(u) the density of u = ln K(w) for w ~ N(0, 1/γ), everything the estimator can ask for
follows:

    B = E[nβK] = ∫ nβeᵘ exp(−nβeᵘ) p(u) du / ∫ exp(−nβeᵘ) p(u) du

Independent factors of a product add their logarithms, so that their densities convolve: one Fourier
transform gives B of a monomial in any number of variables.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

__all__ = ["States", "expectation", "norm_power", "product"]

Array = NDArray[np.float64]

States = Callable[[Array, float], Array]
"""(grid of u, γ) → unnormalised density of u = ln K."""

POINTS = 2**15
DEPTH = 600.0
HEIGHT = 60.0


def _grid() -> Array:
    return np.linspace(-DEPTH, HEIGHT, POINTS, endpoint=False)


def norm_power(dimension: int, power: float) -> States:
    """K = ‖w‖^power in so many dimensions; one dimension is |w|^power."""

    def states(u: Array, gamma: float) -> Array:
        # ln‖w‖ = u/power, and ‖w‖^{d−1} d‖w‖ = ‖w‖^d d ln‖w‖.
        log_radius = u / power
        log_density = dimension * log_radius - gamma / 2 * np.exp(np.minimum(2 * log_radius, 700.0))
        norm = (dimension / 2 - 1) * np.log(2.0) + gammaln(dimension / 2)
        return np.exp(log_density + dimension / 2 * np.log(gamma) - norm) / power

    return states


def product(factors: Sequence[States]) -> States:
    """K = Π K_i of independent factors."""

    def states(u: Array, gamma: float) -> Array:
        # Twice as long: a sum of two logarithms on the grid reaches as far.
        step, count = u[1] - u[0], len(u)
        spectrum = np.ones(count + 1, dtype=complex)
        for factor in factors:
            spectrum = spectrum * np.fft.rfft(factor(u, gamma) * step, 2 * count)
        # Sums of m logarithms start m − 1 times lower than one.
        shift = (len(factors) - 1) * u[0] / step
        wave = np.exp(2j * np.pi * np.arange(count + 1) * shift / (2 * count))
        return np.maximum(np.fft.irfft(spectrum * wave.conj(), 2 * count)[:count] / step, 0.0)

    return states


def expectation(states: States, n_beta: float, gamma: float) -> float:
    """B of K with the given density of states."""
    u = _grid()
    held = n_beta * np.exp(np.minimum(u, 300.0))
    weight = states(u, gamma) * np.exp(-held)
    return float((held * weight).sum() / weight.sum())
