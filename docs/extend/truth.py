"""A truth to start from: one weight written as the product of two, at (1, 1).

    K(a, b) = (ab − 1)²/2

Its minima are a hyperbola, along which the Hessian has rank 1: the model is minimally singular,
λ = ½ and m = 1 with two parameters (Watanabe 2009, §4.1: the codimension of a smooth set of minima,
halved).

B, the exact expectation at nβ and γ, is an integral over a alone. Given a, b is Gaussian of
precision nβa² + γ and mean (nβa + γ)/(nβa² + γ), so that

    E[nβK | a] = (nβ/2)(a²/(nβa² + γ) + (a·mean − 1)²)

and a itself weighs (nβa² + γ)^−½ exp(−F(a)) with the completed square
F = (nβ + γ(1 + (a − 1)²) − (nβa + γ)²/(nβa² + γ))/2.
"""

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from llc.errors import InputError
from llc.task import Task
from llc.truths.truth import Truth

__all__ = ["product_of_weights"]

REACH = 14.0
POINTS = 400_001


class Product(nn.Module):
    """x → abx, at a = b = 1."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(batch,) → (batch,)."""
        return self.w[0] * self.w[1] * x


def product_of_weights() -> Truth:
    """K = (ab − 1)²/2 at (1, 1): λ = ½, m = 1, B by one integral."""
    name = "one weight as a product of two"

    def make(n: int | None, _seed: int) -> Task:
        if n is not None:
            raise InputError(f"n is {n}, but {name} is a potential without data: leave n out")
        return Task(Product(), potential=lambda m: (m.w.prod() - 1) ** 2 / 2, name=name)

    return Truth(
        name, Fraction(1, 2), 1, "Watanabe 2009, §4.1", make, dimension=2, make_expected=_expected
    )


def _expected(n_beta: float, gamma: float) -> tuple[float, float]:
    """B and its standard error, which is 0: the integral is exact to rounding."""
    a = 1 + np.linspace(-REACH, REACH, POINTS) / gamma**0.5
    precision = n_beta * a**2 + gamma
    mean = (n_beta * a + gamma) / precision
    # (nβ + γ)·precision − (nβa + γ)² without the cancellation of large numbers.
    square = n_beta * gamma * (1 - a) ** 2 / precision + gamma * (1 - a) ** 2
    log_weight = -np.log(precision) / 2 - square / 2
    weight = np.exp(log_weight - log_weight.max())
    rise = n_beta / 2 * (a**2 / precision + (a * mean - 1) ** 2)
    return float((weight * rise).sum() / weight.sum()), 0.0
