"""Exact expectation B of a two-layer linear net at w* = 0, with any number of hidden units.

L = ‖BA‖², A (hidden × inputs) and B (outputs × hidden), under exp(−nβL − (γ/2)(‖A‖² + ‖B‖²)). Given
A, B is Gaussian and integrates out; what is left depends on the nonzero eigenvalues t of AAᵀ only,
whose density is a Laguerre ensemble (Wishart 1928; Muirhead 1982, thm 3.2.18):

    p(t_1 … t_k) ∝ Π_{i<j} |t_i − t_j| · Π_i t_i^{(|inputs − hidden| − 1)/2}
                   · (2nβt_i + γ)^{−outputs/2} · exp(−γt_i/2),      k = min(inputs, hidden)

The integral of |Π(t_i − t_j)| Π v(t_i) is a Pfaffian of pairwise integrals (de Bruijn 1955), hence

    ln Z = ½ ln det M + const,   M_ij = ∬ sgn(y − x) p_i(x) p_j(y) v(x) v(y) dx dy

for any polynomials p_i of degree i, with a border ∫ p_i v for odd k, and B = −∂ ln Z/∂ ln nβ
exactly.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["zero_teacher"]

POINTS = 4_000
DEPTH = 75.0
WORST_CONDITION = 1e11
WALKERS = 512
MOVES = 6_000
STRETCH = 2.0

Array = NDArray[np.float64]


class _Ensemble:
    """The density of the eigenvalues, in units of 1/γ and on a logarithmic scale, u = ln γt."""

    def __init__(self, inputs: int, hidden: int, outputs: int, n_beta: float, gamma: float) -> None:
        # Transposing BA swaps inputs and outputs: fewer eigenvalues are better conditioned.
        if outputs < min(inputs, hidden):
            inputs, outputs = outputs, inputs
        self.count = min(inputs, hidden)
        self.outputs = outputs
        self.power = (abs(inputs - hidden) - 1) / 2
        self.grip = 2 * n_beta / gamma**2  # of the loss over the prior at t = 1/γ

    def log_weight(self, u: Array) -> Array:
        t = np.exp(u)
        # One power more than the density has: dt = t du.
        return (self.power + 1) * u - self.outputs / 2 * np.log1p(self.grip * t) - t / 2

    def rise(self, u: Array) -> Array:
        """What one eigenvalue adds to E[nβL]: outputs/2 times the share that the loss holds."""
        held = self.grip * np.exp(u)
        return self.outputs / 2 * held / (1 + held)


def zero_teacher(
    inputs: int, hidden: int, outputs: int, n_beta: float, gamma: float
) -> tuple[float, float]:
    """B of ‖BA‖² at A = B = 0, and its standard error.

    Up to five eigenvalues, min(inputs, hidden, outputs), it is exact to six digits (error 0);
    above, the matrix is too ill-conditioned for doubles, and walkers sample the eigenvalues.
    """
    ensemble = _Ensemble(inputs, hidden, outputs, n_beta, gamma)
    u = np.linspace(-DEPTH, 7.0, POINTS)
    log_weight = ensemble.log_weight(u)
    weight = np.exp(log_weight - log_weight.max())
    basis = _orthonormal(np.exp(u), weight, ensemble.count)
    matrix, slope = _pairs(basis, weight, -ensemble.rise(u))
    if np.linalg.cond(matrix) > WORST_CONDITION:
        return _walk(ensemble)
    return float(-np.trace(np.linalg.solve(matrix, slope)) / 2), 0.0


def _orthonormal(t: Array, weight: Array, count: int) -> Array:
    """Polynomials of degree 0 … count − 1, orthonormal under the weight, by three terms."""
    rows: list[Array] = []
    for degree in range(count):
        row = np.ones_like(t) if degree == 0 else t * rows[-1]
        for _ in range(2):  # once more against rounding
            for other in rows:
                row = row - (weight * row * other).sum() * other
        rows.append(row / np.sqrt((weight * row * row).sum()))
    return np.array(rows)


def _pairs(basis: Array, weight: Array, change: Array) -> tuple[Array, Array]:
    """De Bruijn's matrix and its derivative by ln nβ, of which ``change`` is ∂ ln v."""
    plain, moved = basis * weight, basis * weight * change
    matrix = _signed(plain, plain)
    slope = _signed(moved, plain) + _signed(plain, moved)
    if len(basis) % 2:
        matrix, slope = (
            np.block([[inner, edge[:, None]], [-edge[None, :], np.zeros((1, 1))]])
            for inner, edge in ((matrix, plain.sum(1)), (slope, moved.sum(1)))
        )
    return matrix, slope


def _signed(left: Array, right: Array) -> Array:
    """∬ sgn(y − x) left_i(x) right_j(y) dx dy in units of the grid's step, to spectral accuracy.

    Both vanish at the ends of the grid, so that the indefinite integral is a division by ik.
    """
    total = right.sum(1, keepdims=True)
    count = right.shape[1]
    waves = 2j * np.pi * np.fft.rfftfreq(count)
    waves[0] = 1.0
    spectrum = np.fft.rfft(right, axis=1) / waves
    spectrum[:, 0] = 0.0
    below = np.fft.irfft(spectrum, count, axis=1) + total * np.arange(count) / count
    below -= below[:, :1]
    return left @ (total - 2 * below).T


def _walk(ensemble: _Ensemble) -> tuple[float, float]:
    """Mean and standard error by stretch moves of an ensemble (Goodman & Weare 2010)."""
    rng = np.random.default_rng(0)
    count = ensemble.count
    upper, lower = np.triu_indices(count, 1)

    def log_density(u: Array) -> Array:
        t = np.exp(u)
        with np.errstate(divide="ignore"):
            apart = np.log(abs(t[:, upper] - t[:, lower])).sum(1)
        return ensemble.log_weight(u).sum(1) + apart

    halves = [rng.normal(-2.0, 1.0, (WALKERS, count)) for _ in range(2)]
    logs = [log_density(half) for half in halves]
    means = np.empty(MOVES)
    for move in range(MOVES):
        for k in (0, 1):
            z = ((STRETCH - 1) * rng.random(WALKERS) + 1) ** 2 / STRETCH
            other = halves[1 - k][rng.integers(WALKERS, size=WALKERS)]
            ahead = other + z[:, None] * (halves[k] - other)
            log_ahead = log_density(ahead)
            odds = (count - 1) * np.log(z) + log_ahead - logs[k]
            taken = np.log(rng.random(WALKERS)) < odds
            halves[k][taken], logs[k][taken] = ahead[taken], log_ahead[taken]
        means[move] = np.mean([ensemble.rise(half).sum(1).mean() for half in halves])
    blocks = means[MOVES // 2 :].reshape(10, -1).mean(1)
    return float(blocks.mean()), float(blocks.std(ddof=1) / 10**0.5)
