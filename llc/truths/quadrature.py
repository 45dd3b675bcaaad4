"""Expectation B, and λ by a fit, of any potential in one or two variables.

Rings around w* are integrated one by one, over angles halved until the exponent nβK changes little
within each, since valleys of minima are narrow; then over the logarithm of their radius, so that
what happens within 1e-10 of w* is seen as well as what happens at the prior's width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from llc.errors import InputError

__all__ = ["Function", "expectation", "fit_llc"]

Array = NDArray[np.float64]
Function = Callable[[Tensor], Tensor]
"""(…, dimension) → (…): K at every point, zero at the origin and nowhere negative."""

DEPTH = 30.0
REACH = 9.0
SECTORS = (48, 70)
SHELLS = 80
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
MOST_CHANGE = 8.0
GONE = 300.0
HALVINGS = 40
TOLERANCE = 1e-9
AGREEMENT = 1e-5
TEMPERATURES = tuple(10.0 ** (k / 2) for k in range(6, 21))


def expectation(function: Function, dimension: int, n_beta: float, gamma: float) -> float:
    """B = E[nβK] under exp(−nβK(w) − (γ/2)‖w‖²) in one or two dimensions.

    Raises:
        InputError: the function is negative or not finite somewhere, is not zero at the origin, or
            is so thin that quadrature over two sets of sectors disagrees.
    """
    if dimension not in (1, 2):
        raise InputError(f"dimension is {dimension}, expected 1 or 2: quadrature goes no further")
    start = float(function(torch.zeros(1, dimension, dtype=torch.float64))[0])
    if start != 0:
        raise InputError(f"the function is {start:g} at the origin, expected 0: shift it so that "
                         "its minimum lies there")  # fmt: skip
    values = [_Rings(function, dimension, n_beta, gamma, count).ratio() for count in SECTORS]
    if not abs(values[0] - values[-1]) <= AGREEMENT * values[-1]:
        raise InputError(
            f"quadrature gives {values[0]:.6g} and {values[-1]:.6g} over two sets of sectors at "
            f"n_beta = {n_beta:g}: valleys are too narrow to be found, give a smaller n_beta"
        )
    return values[-1]


@dataclass(frozen=True)
class _Rings:
    function: Function
    dimension: int
    n_beta: float
    gamma: float
    sectors: int

    def ratio(self) -> float:
        """∫ nβK e^−nβK / ∫ e^−nβK under the prior: shells are halved where halving matters."""
        width = 1 / self.gamma**0.5
        low, high = math.log(width) - DEPTH, math.log(width * REACH)
        size = (high - low) / SHELLS
        start: Array = low + size * np.arange(SHELLS, dtype=np.float64)
        coarse = self._shells(start, size)
        total = coarse.sum(0)
        for _ in range(HALVINGS):
            size /= 2
            halves = np.stack([start, start + size], -1)
            fine = self._shells(halves.ravel(), size).reshape(-1, 2, 2)
            total = total + fine.sum((0, 1)) - coarse.sum(0)
            off = abs(fine.sum(1) - coarse) > TOLERANCE * total
            rough = off.any(1)
            if not rough.any():
                break
            start, coarse = halves[rough].ravel(), fine[rough].reshape(-1, 2)
        return float(total[1] / total[0])

    def _shells(self, start: Array, size: float) -> Array:
        """Both integrals over shells of the logarithm of the radius, shape (shells, 2)."""
        radius = np.exp(start[:, None] + size * (NODES + 1) / 2)
        weight = radius**self.dimension * np.exp(-self.gamma * radius**2 / 2) * WEIGHTS * size / 2
        if self.dimension == 1:
            held = self._exponent(np.stack([radius, -radius])[..., None])
            rings = np.stack([np.exp(-held).sum(0), (np.exp(-held) * held).sum(0)], -1)
        else:
            rings = self._rings(radius.ravel()).reshape(*radius.shape, 2)
        return (rings * weight[..., None]).sum(1)

    def _rings(self, radius: Array) -> Array:
        """Both integrals over the angle at every radius, shape (radii, 2)."""
        ring, sector = np.divmod(np.arange(len(radius) * self.sectors), self.sectors)
        size = 2 * math.pi / self.sectors
        start = sector * size
        total = np.zeros((len(radius), 2))
        for halving in range(HALVINGS):
            angle = start[:, None] + size * (NODES + 1) / 2
            r = radius[ring][:, None]
            held = self._exponent(np.stack([r * np.cos(angle), r * np.sin(angle)], -1))
            least, most = held.min(1), held.max(1)
            # Near a valley K falls to a small part of what it is at the sector's other side.
            wild = (most - least > MOST_CHANGE) & ((least < GONE) | (2 * least < most))
            wild &= halving < HALVINGS - 1
            share = np.exp(-held[~wild]) * WEIGHTS * size / 2
            both = np.stack([share.sum(1), (share * held[~wild]).sum(1)], -1)
            np.add.at(total, ring[~wild], both)
            if not wild.any():
                break
            size /= 2
            ring = np.repeat(ring[wild], 2)
            start = np.stack([start[wild], start[wild] + size], -1).ravel()
        return total

    def _exponent(self, places: Array) -> Array:
        held = self.n_beta * self.function(torch.from_numpy(places)).numpy()
        if not np.isfinite(held).all() or (held < 0).any():
            raise InputError("the function is negative or not finite within the prior's reach, "
                             "expected a potential K ≥ 0 that is zero at the origin")  # fmt: skip
        return held


def fit_llc(function: Function, dimension: int) -> tuple[float, int, float]:
    """λ, m and the uncertainty of λ, from how B approaches it as nβ grows.

    Z(nβ) ~ nβ^−λ (ln nβ)^{m−1} (Watanabe 2009, thm 6.7) makes B = −∂ ln Z/∂ ln nβ approach λ. At
    γ = 1 and nβ = 1e3 … 1e10 it is fitted by λ + Σ a nβ^−s with two terms, and in two dimensions by
    λ − 1/(ln nβ + c) + a nβ^−s too; the better one decides on m. The uncertainty is how far λ moves
    when the four smallest nβ are left out.

    Raises:
        InputError: as `expectation`.
    """
    expectation(function, dimension, TEMPERATURES[-1], 1.0)  # for its checks
    values = np.array(
        [_Rings(function, dimension, n, 1.0, SECTORS[0]).ratio() for n in TEMPERATURES]
    )
    logs = np.log(TEMPERATURES)
    fits = [_fit(logs, values, m) for m in range(1, dimension + 1)]
    best = int(np.argmin([misfit for _, misfit in fits]))
    later = _fit(logs[4:], values[4:], best + 1)[0]
    return fits[best][0], best + 1, abs(later - fits[best][0])


def _fit(logs: Array, values: Array, multiplicity: int) -> tuple[float, float]:
    """λ and the squared misfit; what decays in ln nβ does so at a pace between .03 and 3."""
    past = logs - logs[0]
    slow, fast = math.log(0.03), math.log(3.0)

    def misfit(x: Array) -> Array:
        model = x[0] + x[1] * np.exp(-np.exp(x[2]) * past)
        if multiplicity == 1:
            model = model + x[3] * np.exp(-np.exp(x[4]) * past)
        else:
            model = model - 1 / (logs + x[3])
        return (model - values) * 1e3

    tries = []
    for pace in (0.08, 0.2, 0.5):
        start = [values[-1], values[0] - values[-1], math.log(pace), 0.0]
        low, high = [0.0, -np.inf, slow, -np.inf], [np.inf, np.inf, fast, np.inf]
        if multiplicity == 1:
            start, low, high = [*start, 0.0], [*low, slow], [*high, fast]
        else:
            low[3] = 0.5 - logs[0]
        tries.append(least_squares(misfit, start, bounds=(low, high), x_scale="jac", xtol=1e-14,
                                   ftol=1e-14, max_nfev=3000))  # fmt: skip
    best = min(tries, key=lambda t: t.cost)
    return float(best.x[0]), float(best.cost)
