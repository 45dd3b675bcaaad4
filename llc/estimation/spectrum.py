"""Sums over the eigenvalues of a symmetric matrix that is known by its products only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llc.diagnostics import Array

__all__ = ["Product", "Spectrum", "dense", "lanczos", "leading"]

Product = Callable[[Tensor], Tensor]
"""Rows v, shape ``(probes, D)``, to rows Av of the same shape."""

Function = Callable[[Array], Array]
RESTARTS = 60
SEEN = 1e-20
NEGATIVE = 1e-6
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues known one by one, and random probes for the rest.

    A probe v ⊥ the known eigenvectors has E[vᵀf(A)v] = Σ f(h_i) over the rest, and Gauss quadrature
    vᵀf(A)v ≈ ‖v‖² Σ_j τ_j² f(θ_j), with θ the eigenvalues of the tridiagonal matrix that Lanczos
    makes of A and v, τ the first components of its eigenvectors (Golub & Welsch 1969; Ubaru, Chen &
    Saad 2017). It is exact for polynomials up to degree 2·steps − 1.

    Attributes:
        known: eigenvalues known one by one, falling, shape ``(k,)``; all of them where the matrix
            was formed.
        diagonal: of each probe's tridiagonal matrix, shape ``(probes, steps)``.
        beside: next to the diagonal, ``(probes, steps − 1)``.
        mass: ‖v‖² of each probe, ``(probes,)``; no probes where the matrix was formed.
    """

    known: Array
    diagonal: Array
    beside: Array
    mass: Array

    @classmethod
    def whole(cls, eigenvalues: Array) -> "Spectrum":
        """A spectrum of which every eigenvalue is known."""
        none = np.zeros((0, 1))
        return cls(np.sort(eigenvalues)[::-1], none, none[:, :0], none[:, 0])

    @property
    def exact(self) -> bool:
        """Whether all eigenvalues are known."""
        return len(self.mass) == 0

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue, or the smallest Ritz value, which is no smaller than it."""
        if self.exact:
            return float(self.known[-1])
        nodes, weights = self._quadrature(self.diagonal, self.beside)
        return float(min(nodes[weights > SEEN].min(initial=np.inf), self.known.min(initial=np.inf)))

    def by_probe(self, function: Function) -> Array:
        """Return every probe's estimate of Σ f(h_i), shape ``(probes,)``."""
        nodes, weights = self._quadrature(self.diagonal, self.beside)
        return function(self.known).sum() + self.mass * (weights * function(nodes)).sum(1)

    def trace(self) -> tuple[float, float]:
        """Return Σ h_i and its standard error, 0 where all eigenvalues are known."""
        return self._mean(self.by_probe(lambda h: h))

    def sum_rising(self, function: Function) -> tuple[float, float]:
        """Return Σ f(h_i) and its error, 0 where all eigenvalues are known.

        For f rising from 0 at h ≤ 0 like h/(h + α). Gauss quadrature bounds the sum of an f whose
        even derivatives are negative from above, and with a node moved to the lower end (Gauss &
        Radau) from below (Golub & Meurant 1994). Where eigenvalues are negative f has a kink, and
        the bounds are those of any rising function (Chebyshev, Markov & Stieltjes). The middle is
        returned; half the width joins what the probes differ by.
        """
        if self.exact:
            return float(function(self.known).sum()), 0.0
        nodes, weights = self._quadrature(self.diagonal, self.beside)
        values = function(nodes)
        largest = max(self.known.max(initial=0.0), nodes.max())
        if self.smallest < -NEGATIVE * largest:
            before = np.zeros((len(nodes), 1))
            low = (weights * np.hstack([before, values[:, :-1]])).sum(1)
            top = np.maximum(values[:, -1:], function(self.known[-1:]).max(initial=0.0))
            high = (weights * np.hstack([values[:, 1:], top])).sum(1)
        else:
            high = (weights * values).sum(1)
            there, shares = self._radau(min(self.smallest, 0.0) - ROUNDING * largest)
            low = (shares * function(there)).sum(1)
        known = function(self.known).sum()
        return self._mean(known + self.mass * (low + high) / 2, self.mass * (high - low))

    def _mean(self, values: Array, widths: Array | None = None) -> tuple[float, float]:
        """Mean over probes and its error, half the mean width of their bounds added."""
        if self.exact:
            return float(self.known.sum()), 0.0
        error = values.std(ddof=1) / len(values) ** 0.5
        half = 0.0 if widths is None else widths.mean() / 2
        return float(values.mean()), float(np.hypot(error, half))

    def count_above(self, limit: float) -> tuple[float, float]:
        """Return the number of eigenvalues above a limit and its error, 0 where all are known.

        Gauss quadrature bounds how many lie below θ_k: at least the weights before it, at most
        those and its own (Chebyshev, Markov & Stieltjes). The middle is returned; half the width
        joins what the probes differ by.
        """
        above = float((self.known > limit).sum())
        if self.exact:
            return above, 0.0
        nodes, weights = self._quadrature(self.diagonal, self.beside)
        # By each node below the limit at least the weights before it; by the next at most its own.
        below = (nodes <= limit) & (weights > SEEN)
        summed = np.cumsum(weights, 1)
        least = np.where(below, summed - weights, 0.0).max(1)
        following = np.where(~below & (weights > SEEN), summed, np.inf).min(1)
        most = np.minimum(following, 1.0)
        middle = above + self.mass * (1 - (least + most) / 2)
        return self._mean(middle, self.mass * (most - least))

    def participation_ratio(self) -> tuple[float, float]:
        """Return (Σh)²/Σh² and its standard error by the delta method; nan where all h are zero."""
        if self.exact:
            first, second = (float((self.known**p).sum()) for p in (1, 2))
            return (first**2 / second if second > 0 else float("nan")), 0.0
        first, second = (self.by_probe(lambda h, p=p: h**p) for p in (1, 2))
        x, y = first.mean(), second.mean()
        if not (y > 0 and x != 0):
            return float("nan"), float("nan")
        ratio = x * x / y
        influence = ratio * (2 * first / x - second / y)
        return float(ratio), float(influence.std(ddof=1) / len(first) ** 0.5)

    def _quadrature(self, diagonal: Array, beside: Array) -> tuple[Array, Array]:
        """Nodes θ, rising, and weights τ² of each probe, shapes ``(probes, steps)``."""
        nodes, vectors = np.linalg.eigh(_tridiagonal(diagonal, beside))
        return nodes, vectors[:, 0, :] ** 2

    def _radau(self, end: float) -> tuple[Array, Array]:
        """The same with one node at ``end``, below all eigenvalues (Golub 1973)."""
        diagonal, beside = self.diagonal.copy(), self.beside
        if beside.shape[1]:
            shorter = _tridiagonal(diagonal[:, :-1] - end, beside[:, :-1])
            last = np.linalg.inv(shorter)[:, -1, -1]
            diagonal[:, -1] = np.where(
                beside[:, -1] > 0, end + beside[:, -1] ** 2 * last, diagonal[:, -1]
            )
        return self._quadrature(diagonal, beside)


def _tridiagonal(diagonal: Array, beside: Array) -> Array:
    count, steps = diagonal.shape
    matrix = np.zeros((count, steps, steps))
    i = np.arange(steps)
    matrix[:, i, i] = diagonal
    matrix[:, i[1:], i[:-1]] = matrix[:, i[:-1], i[1:]] = beside
    return matrix


def dense(product: Product, start: Tensor, side: int) -> Tensor:
    """Form the matrix, ``(D, D)`` and symmetric, by products with ``side`` unit vectors at a time.

    Args:
        product: of the matrix.
        start: any vector of its kind, shape ``(D,)``.
        side: rows a product.
    """
    size = len(start)
    rows = []
    for begin in range(0, size, side):
        count = min(side, size - begin)
        unit = start.new_zeros((count, size))
        unit[torch.arange(count), begin + torch.arange(count)] = 1
        rows.append(product(unit))
    matrix = torch.cat(rows)
    return (matrix + matrix.T) / 2


def leading(product: Product, start: Tensor, count: int) -> tuple[Array, Tensor]:
    """Return the largest eigenvalues, falling, and their eigenvectors as orthonormal rows.

    Restarted Lanczos of ARPACK, from one start: of many equal eigenvalues it may find only some.
    Those that did not converge are left out.
    """
    from scipy.sparse import linalg

    size = len(start)

    def matvec(vector: Array) -> Array:
        v = torch.from_numpy(np.ascontiguousarray(vector).reshape(1, -1)).to(start)
        return product(v)[0].double().cpu().numpy()

    tolerance = 1e-5 if start.dtype == torch.float32 else 1e-9
    build: Any = linalg.LinearOperator  # its own signature hides the arguments
    operator = build((size, size), matvec=matvec, dtype=np.float64)
    try:
        values, vectors = linalg.eigsh(
            operator,
            k=min(count, size - 1),
            which="LA",
            v0=start.double().cpu().numpy(),
            maxiter=RESTARTS,
            tol=tolerance,
        )
    except linalg.ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    except linalg.ArpackError:  # as for a matrix of zeros, where no start leads anywhere
        values, vectors = np.zeros(0), np.zeros((size, 0))
    order = np.argsort(values)[::-1]
    rows = np.linalg.qr(vectors[:, order])[0].T
    return values[order], torch.from_numpy(np.ascontiguousarray(rows)).to(start)


def lanczos(
    product: Product, start: Tensor, steps: int, against: Tensor
) -> tuple[Array, Array, Array]:
    """Tridiagonalise from several starts side by side, with full reorthogonalisation (Paige 1972).

    Args:
        product: of the symmetric matrix.
        start: one start a row, shape ``(probes, D)``.
        steps: Lanczos steps; where a start's Krylov space ends before, zeros follow.
        against: orthonormal eigenvectors to stay clear of, shape ``(k, D)``.

    Returns:
        diagonal ``(probes, steps)``, beside ``(probes, steps − 1)``, and squared lengths of the
        starts without their part along ``against``, ``(probes,)``.
    """
    clear = start
    for _ in range(2):
        clear = clear - (clear @ against.T) @ against
    lengths = clear.norm(dim=1)
    ends = 10 * torch.finfo(start.dtype).eps
    basis = start.new_zeros((len(start), steps, start.shape[1]))
    current = _unit(clear, lengths, lengths > ends * start.norm(dim=1))
    diagonal, beside = [], []
    largest = torch.zeros_like(lengths)
    for step in range(steps):
        basis[:, step] = current
        ahead = product(current)
        diagonal.append((current * ahead).sum(1))
        if step == steps - 1:
            break
        so_far = basis[:, : step + 1]
        for _ in range(2):
            ahead = ahead - torch.einsum("psd,ps->pd", so_far, torch.einsum(
                "psd,pd->ps", so_far, ahead))  # fmt: skip
            ahead = ahead - (ahead @ against.T) @ against
        norm = ahead.norm(dim=1)
        largest = torch.maximum(largest, torch.maximum(diagonal[-1].abs(), norm))
        goes_on = norm > ends * largest
        beside.append(torch.where(goes_on, norm, 0.0))
        current = _unit(ahead, norm, goes_on)
    masses = lengths.double().square().cpu().numpy()
    if not beside:
        return _stacked(diagonal), np.zeros((len(start), 0)), masses
    return _stacked(diagonal), _stacked(beside), masses


def _unit(rows: Tensor, lengths: Tensor, kept: Tensor) -> Tensor:
    safe = torch.where(kept, lengths, 1.0)
    return torch.where(kept, 1 / safe, 0.0)[:, None] * rows


def _stacked(columns: list[Tensor]) -> Array:
    return torch.stack(columns, 1).double().cpu().numpy()
