"""The move of n units that brings them nearest to a reference.

Throughout a, ``(n, f)``, are the values written to the units and b, ``(n, g)``, those that read
them; r and q are the reference's. Minimised is ‖M·a − r‖² + ‖M⁻ᵀ·b − q‖².
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, minimize
from torch import Tensor

__all__ = ["gauge", "monomial", "rotation"]

MOST_ITERATIONS = 200
WORST_CONDITION = 1e8
EPSILON = 1e-12


def rotation(a: Tensor, r: Tensor, b: Tensor, q: Tensor) -> Tensor:
    """Return the best M of O(n): orthogonal Procrustes (Schönemann 1966)."""
    u, _, v = torch.linalg.svd(r @ a.T + q @ b.T)
    return u @ v


def gauge(a: Tensor, r: Tensor, b: Tensor, q: Tensor) -> Tensor:
    """Return a good M of GL(n), never worse than the best rotation.

    The problem is not convex. Tried are the identity, the best rotation, and from each of them the
    nearest solution of ‖M·a − r‖² + ‖Mᵀ·q − b‖², which is linear in M and has the same zeros: exact
    where the reference is in the orbit. The best of them is refined by L-BFGS.
    """
    n = len(a)
    bases = [torch.eye(n, dtype=torch.float64), rotation(a, r, b, q)]
    tried = bases + [_linear(base, a, r, b, q) for base in bases]
    usable = [m for m in tried if float(torch.linalg.cond(m)) < WORST_CONDITION]
    best = min(usable, key=lambda m: _misfit(m, a, r, b, q)[0])
    found = minimize(
        lambda m: _flat(*_misfit(torch.from_numpy(m).reshape(n, n), a, r, b, q)),
        best.numpy().ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MOST_ITERATIONS, "ftol": 1e-14, "gtol": 1e-10},
    )
    refined = torch.from_numpy(found.x).reshape(n, n)
    return refined if found.fun < _misfit(best, a, r, b, q)[0] else best


def _linear(base: Tensor, a: Tensor, r: Tensor, b: Tensor, q: Tensor) -> Tensor:
    """Solve M·aaᵀ + qqᵀ·M = raᵀ + qbᵀ by the M nearest to the base.

    A Sylvester equation of symmetric matrices, which may share a null space; solved in their
    eigenbases, where it falls apart.
    """
    right, by_column = torch.linalg.eigh(a @ a.T)
    left, by_row = torch.linalg.eigh(q @ q.T)
    rest = r @ a.T + q @ b.T - base @ a @ a.T - q @ q.T @ base
    weights = left.clamp(min=0).unsqueeze(1) + right.clamp(min=0).unsqueeze(0)
    seen = weights > EPSILON * weights.max()
    change = by_row.T @ rest @ by_column
    change = torch.where(seen, change / weights.where(seen, torch.ones(()).double()), 0.0)
    return base + by_row @ change @ by_column.T


def _misfit(m: Tensor, a: Tensor, r: Tensor, b: Tensor, q: Tensor) -> tuple[float, Tensor]:
    """‖M·a − r‖² + ‖M⁻ᵀ·b − q‖² and its gradient by M."""
    try:
        inverse = torch.linalg.inv(m).T
    except torch.linalg.LinAlgError:
        return float("inf"), torch.zeros_like(m)
    first, second = m @ a - r, inverse @ b - q
    value = float(first.square().sum() + second.square().sum())
    return value, 2 * first @ a.T - 2 * inverse @ b @ second.T @ inverse


def _flat(value: float, gradient: Tensor) -> tuple[float, np.ndarray]:
    return value, gradient.numpy().ravel()


def monomial(
    a: Tensor, r: Tensor, b: Tensor, q: Tensor, *, kind: str, permutes: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Return the best order and factors of units, by linear assignment: exact for these units.

    Every pair of units is given its best factor first: none for ``"any"``, the sign of their inner
    product for ``"odd"``, for ``"relu"`` the s > 0 that minimises ‖s·a − r‖² + ‖b/s − q‖².
    """
    written, read = r @ a.T, q @ b.T
    if kind == "any":
        factors, gain = None, written + read
    elif kind == "odd":
        gain = (written + read).abs()
        factors = torch.where(written + read < 0, -1.0, 1.0).double()
    else:
        heavy = a.square().sum(1).expand_as(written), b.square().sum(1).expand_as(written)
        factors = _scales(heavy[0], written, heavy[1], read)
        gain = -_cost(factors, heavy[0], written, heavy[1], read)
    rows = torch.arange(len(a))
    order = rows
    if permutes:
        order = torch.from_numpy(linear_sum_assignment(gain.numpy(), maximize=True)[1])
    return order, None if factors is None else factors[rows, order]


def _cost(s: Tensor, aa: Tensor, ar: Tensor, bb: Tensor, bq: Tensor) -> Tensor:
    """‖s·a − r‖² + ‖b/s − q‖² less what does not depend on the pairing."""
    return aa * s**2 - 2 * ar * s + bb / s**2 - 2 * bq / s


def _scales(aa: Tensor, ar: Tensor, bb: Tensor, bq: Tensor) -> Tensor:
    """The best s > 0 for every pair, from the roots of aa·s⁴ − ar·s³ + bq·s − bb.

    In units of (bb/aa)^¼, the balanced scale, the polynomial is t⁴ − (…)t³ + (…)t − 1.
    """
    both = (aa > 0) & (bb > 0)
    unit = torch.where(both, (bb / aa.where(both, torch.ones(()).double())) ** 0.25, 1.0)
    one = torch.ones_like(aa)
    cubic = ar / (aa * unit).where(both, one)
    linear = bq * unit / bb.where(both, one)
    companion = torch.zeros((*aa.shape, 4, 4), dtype=torch.float64)
    companion[..., 1:, :3] = torch.eye(3)
    companion[..., 0, 3] = 1.0
    companion[..., 1, 3] = -linear
    companion[..., 3, 3] = cubic
    roots = torch.linalg.eigvals(companion)
    real = (roots.imag.abs() <= 1e-6 * roots.abs()) & (roots.real > 0)
    t = torch.where(real, roots.real, 1.0)
    for _ in range(2):  # Newton, to the last digits
        value = t**4 - cubic.unsqueeze(-1) * t**3 + linear.unsqueeze(-1) * t - 1
        slope = 4 * t**3 - 3 * cubic.unsqueeze(-1) * t**2 + linear.unsqueeze(-1)
        better = t - value / slope.where(slope != 0, torch.ones(()).double())
        t = torch.where(better > 0, better, t)
    # Units that only write, or are only read, have their optimum in closed form.
    only_written = torch.where((aa > 0) & (ar > 0), ar / aa.where(aa > 0, one), one)
    only_read = torch.where((bb > 0) & (bq > 0), bb / bq.where(bq > 0, one), one)
    alone = torch.where(aa > 0, only_written, only_read)
    tried = torch.cat([t * unit.unsqueeze(-1), one.unsqueeze(-1)], -1)
    tried = torch.where(both.unsqueeze(-1), tried, alone.unsqueeze(-1))
    costs = _cost(tried, *(x.unsqueeze(-1) for x in (aa, ar, bb, bq)))
    return tried.gather(-1, costs.argmin(-1, keepdim=True)).squeeze(-1)
