"""The toy model of superposition in two hidden dimensions, at its regular polygons.

x = ζ e_i with i uniform over the features and ζ ~ U(0, 1) is rebuilt as ReLU(WᵀWx + b), W of shape
(2, features); L = E‖x − x̂‖² (Elhage et al. 2022; Chen, Lau, Mendel, Wei & Murfet 2023, arXiv
2310.06301). A regular k-gon of columns W_i is a critical point; its only flat directions are the
rotation of the plane and whatever belongs to the features it leaves out.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from llc.errors import InputError
from llc.task import Task
from llc.truths import formulas
from llc.truths.truth import Truth

__all__ = ["Superposition", "polygon", "population_loss"]

DEAD_BIAS = -0.5


class Superposition(nn.Module):
    """x → ReLU(WᵀWx + b)."""

    def __init__(self, w: Tensor, b: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w.clone())
        self.b = nn.Parameter(b.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) → (batch, features)."""
        return torch.relu(x @ self.w.T @ self.w + self.b)


def population_loss(model: Any) -> Tensor:
    """E‖x − x̂‖² in closed form: every pair of features is an integral of a piecewise quadratic."""
    c, b = model.w.T @ model.w, model.b  # c_ij: what feature i at 1 adds to output j
    features = len(b)
    target = torch.eye(features, dtype=c.dtype, device=c.device)
    # ReLU(cζ + b) is positive between low and high; it is zero where they come from its root, so
    # that they need no gradient.
    with torch.no_grad():
        root = (-b / torch.where(c == 0, 1.0, c)).clamp(0, 1)
        low = torch.where(b > 0, 0.0, torch.where(c + b > 0, root, 1.0))
        high = torch.where(c + b > 0, 1.0, torch.where(b > 0, root, low))
    first, second, third = high - low, (high**2 - low**2) / 2, (high**3 - low**3) / 3
    square = c**2 * third + 2 * c * b * second + b**2 * first
    cross = c * third + b * second
    return (target / 3 - 2 * target * cross + square).sum() / features


def polygon(k: int, features: int, seed: int = 0) -> Truth:
    """Toy model of superposition at the regular k-gon among so many features.

    λ = (3k − 1)/2: 2k weights and k biases less the rotation, all at second order; features left
    out, at W_i = 0 with negative bias, cost nothing nearby. Where some are left out the region in
    which they cost nothing is small (a few tenths): choose γ of 100 or more to stay in it.

    Args:
        k: corners, at least 5: at 4 neighbouring columns are orthogonal and sit on the ReLU's kink.
        features: all of them, at least k.
        seed: of the polygon's orientation.

    Raises:
        InputError: fewer than five corners, more corners than features, or a polygon that is no
            minimum.
    """
    formulas.whole("k", k, 5)
    if formulas.whole("features", features, 1) < k:
        raise InputError(f"features is {features}, expected at least k = {k}, one for each corner")
    name = f"superposition {k}-gon of {features}"
    symmetric = minimize(
        lambda x: population_loss(_regular(k, features, seed, *x)).item(), (1.2, -0.3 * (k - 4)),
        method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12},
    )  # fmt: skip
    start = _settled(_regular(k, features, seed, *symmetric.x), population_loss, k)

    def make(n: int | None, data_seed: int) -> Task:
        if n is None:
            return Task(start, potential=population_loss, name=name)
        generator = torch.Generator().manual_seed(data_seed)
        size = formulas.whole("n", n, 2)
        which = torch.randint(features, (size,), generator=generator)
        zeta = torch.rand(size, generator=generator, dtype=torch.float64)
        x = torch.zeros(size, features, dtype=torch.float64)
        x[torch.arange(size), which] = zeta

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return ((outputs - targets) ** 2).sum(-1)

        # The empirical minimum is not the population's: there, λ̂ would fall short.
        model = _settled(start, lambda m: loss(m(x), x).mean(), k)
        return Task(model, (x, x), loss, name=name)

    return Truth(
        name,
        Fraction(3 * k - 1, 2),
        1,
        "Chen, Lau, Mendel, Wei & Murfet 2023, arXiv 2310.06301; rank of the Hessian",
        make,
        3 * features,
    )


def _regular(k: int, features: int, seed: int, length: float, bias: float) -> Superposition:
    turn = float(torch.rand((), generator=torch.Generator().manual_seed(seed))) * 2 * math.pi
    angle = turn + 2 * math.pi * torch.arange(k, dtype=torch.float64) / k
    w = torch.zeros(2, features, dtype=torch.float64)
    w[:, :k] = length * torch.stack([angle.cos(), angle.sin()])
    b = torch.full((features,), DEAD_BIAS, dtype=torch.float64)
    b[:k] = bias
    return Superposition(w, b)


def _settled(start: Superposition, loss: Callable[[Any], Tensor], k: int) -> Superposition:
    """Move corners and their biases to the minimum nearby; features left out stay."""
    w, b = start.w.detach(), start.b.detach()

    def build(x: Tensor) -> tuple[Tensor, Tensor]:
        corners, biases = x[: 2 * k].view(2, k), x[2 * k :]
        return (torch.cat([corners, w[:, k:]], 1), torch.cat([biases, b[k:]]))

    class View:
        """What a loss reads of a model."""

        def __init__(self, x: Tensor) -> None:
            self.w, self.b = build(x)

        def __call__(self, x: Tensor) -> Tensor:
            return torch.relu(x @ self.w.T @ self.w + self.b)

    def value(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        point = torch.from_numpy(x.copy()).requires_grad_()
        out = loss(View(point))
        (gradient,) = torch.autograd.grad(out, point)
        return out.item(), gradient.numpy()

    begin = torch.cat([w[:, :k].reshape(-1), b[:k]]).numpy()
    found = minimize(value, begin, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 2000})
    if abs(found.x - begin).max() > 0.5 or abs(found.jac).max() > 1e-4:
        raise InputError(f"the {k}-gon is no minimum of this loss: choose k = features")
    return Superposition(*build(torch.from_numpy(found.x)))
