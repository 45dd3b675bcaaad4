"""Small nonlinear networks: tanh nets at the zero function, ReLU nets up to their symmetries."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llc.errors import InputError
from llc.task import Task
from llc.truths import formulas
from llc.truths.truth import Expected, Truth

__all__ = ["relu_net", "tanh_net"]

INPUTS = 32
STEP = 0.05
DEPTH = 25.0

Array = NDArray[np.float64]


class TanhNet(nn.Module):
    """x → Σ_k a_k tanh(b_k x), at a = b = 0."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(hidden, dtype=torch.float64))
        self.b = nn.Parameter(torch.zeros(hidden, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(batch,) → (batch,)."""
        return torch.tanh(x[:, None] * self.b) @ self.a


def tanh_net(hidden: int) -> Truth:
    """Σ_k a_k tanh(b_k x) learning the zero function from x ~ U(−1, 1), at a = b = 0.

    λ is `formulas.tanh_zero`. Given b, a is Gaussian and integrates out, which leaves B as a one-
    or two-dimensional integral for one or two hidden units; None above.

    Raises:
        InputError: ``hidden`` is no whole number of at least 1.
    """
    llc, multiplicity = formulas.tanh_zero(hidden)
    name = f"tanh net, {hidden} hidden, zero function"
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(INPUTS))

    def make(n: int | None, seed: int) -> Task:
        model = TanhNet(hidden)
        if n is None:
            return Task(model, potential=lambda m: (m(nodes) ** 2 * weights).sum() / 2, name=name)
        generator = torch.Generator().manual_seed(seed)
        size = formulas.whole("n", n, 2)
        x = 2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1
        return Task(model, (x, torch.zeros_like(x)), lambda y, t: (y - t) ** 2, name=name)

    return Truth(
        name,
        llc,
        multiplicity,
        "Aoyagi & Watanabe 2006; Watanabe 2009, §7.2",
        make,
        2 * hidden,
        _tanh_expected(hidden),
    )


def _tanh_expected(hidden: int) -> Expected | None:
    """B from the posterior of b: det(1 + (2nβ/γ)G(b))^−½ times the prior, G_kl = E tanh tanh.

    Flipping the sign of b_k together with a_k changes nothing: positive b are enough.
    """
    if hidden > 2:
        return None
    nodes, weights = np.polynomial.legendre.leggauss(INPUTS)

    def gram(left: Array, right: Array) -> Array:
        product = np.tanh(left[..., None] * nodes) * np.tanh(right[..., None] * nodes)
        return (product * weights).sum(-1) / 2

    def one(n_beta: float, gamma: float) -> tuple[float, float]:
        b = np.exp(np.arange(-DEPTH, math.log(9.0), STEP)) / gamma**0.5
        held = 2 * n_beta / gamma * gram(b, b)
        weight = b * np.exp(-gamma * b * b / 2) / np.sqrt(1 + held)
        return float((weight * held / (1 + held)).sum() / weight.sum() / 2), 0.0

    def two(n_beta: float, gamma: float) -> tuple[float, float]:
        larger = np.exp(np.arange(-DEPTH, math.log(9.0), STEP))[:, None] / gamma**0.5
        # The smaller one's share of it, fine near 0 and near 1, where both units become one.
        v = np.arange(-DEPTH, DEPTH, STEP)[None, :]
        share = 1 / (1 + np.exp(-v))
        smaller = larger * share
        grip = 2 * n_beta / gamma
        p, q, r = (grip * gram(*pair) for pair in (
            (larger + 0 * v, larger + 0 * v), (smaller, smaller), (larger + 0 * v, smaller)
        ))  # fmt: skip
        determinant = 1 + p + q + np.maximum(p * q - r * r, 0.0)
        prior = larger**2 * np.exp(-gamma * (larger**2 + smaller**2) / 2)
        weight = prior * share / (1 + np.exp(v)) / np.sqrt(determinant)
        # tr M(1 + M)⁻¹ = 2 − tr (1 + M)⁻¹
        held = 2 - (2 + p + q) / determinant
        return float((weight * held).sum() / weight.sum() / 2), 0.0

    return one if hidden == 1 else two


class ReluNet(nn.Module):
    """Linear layers with biases, ReLU between them."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(w.clone()) for w, _ in layers])
        self.biases = nn.ParameterList([nn.Parameter(b.clone()) for _, b in layers])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) → (batch, outputs)."""
        last = len(self.weights) - 1
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ w.T + b
            x = torch.relu(x) if k < last else x
        return x


def relu_net(
    widths: Sequence[int], *, scale: float = 1.0, permuted: bool = False, seed: int = 0
) -> Truth:
    """ReLU net at its own function, rescaled by α and 1/α and with permuted hidden units.

    ReLU(αz) = αReLU(z): the first layer times α and the second over α are the same function, and so
    is any order of the hidden units. λ is unknown, but the same for all; so is B as γ → 0 (the
    prior itself is not invariant under rescaling). The task has data, 1,000 examples unless said.

    Args:
        widths: inputs, hidden widths, outputs: three at least.
        scale: α.
        permuted: whether hidden units change places.
        seed: of weights, data and permutations.

    Raises:
        InputError: fewer than three widths, or a scale that is not positive.
    """
    w = [formulas.whole(f"widths[{i}]", value, 1) for i, value in enumerate(widths)]
    if len(w) < 3:
        raise InputError(f"widths is {list(widths)}, expected three at least: one layer is hidden")
    if not 0 < scale < math.inf:
        raise InputError(f"scale is {scale}, expected a positive number")
    generator = torch.Generator().manual_seed(seed)
    layers = [
        (
            torch.randn(b, a, generator=generator) * (2 / a) ** 0.5,
            0.1 * torch.randn(b, generator=generator),
        )
        for a, b in pairwise(w)
    ]
    orders = [torch.randperm(h, generator=generator) for h in w[1:-1]]
    if permuted:
        for k, order in enumerate(orders):
            (weight, bias), (after, its_bias) = layers[k], layers[k + 1]
            layers[k], layers[k + 1] = (weight[order], bias[order]), (after[:, order], its_bias)
    (first, bias), (second, its_bias) = layers[0], layers[1]
    layers[0], layers[1] = (scale * first, scale * bias), (second / scale, its_bias)
    changes = [f"×{scale:g}"] * (scale != 1) + ["permuted"] * permuted
    name = f"ReLU net {'-'.join(map(str, w))}{', ' if changes else ''}{', '.join(changes)}"

    def make(n: int | None, data_seed: int) -> Task:
        model = ReluNet(layers)
        source = torch.Generator().manual_seed(data_seed)
        x = torch.randn(formulas.whole("n", n or 1000, 2), w[0], generator=source)
        with torch.no_grad():
            y = model(x)
        return Task(model, (x, y), lambda out, t: ((out - t) ** 2).sum(-1), name=name)

    dimension = sum(a * b + b for a, b in pairwise(w))
    return Truth(name, None, None, "invariance only", make, dimension)
