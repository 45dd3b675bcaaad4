"""Targets of the cost-to-accuracy benchmark: model at w*, loss, data, settings and B.

Torch, numpy and scipy only, so that a rival's environment can import it. B is the expectation of
nβ(L(w) − L(w*)) under exp(−nβL(w) − (γ/2)‖w − w*‖²) at the nβ and γ given here: closed form,
quadrature, or the long runs of `cost_to_accuracy.py --references`, with their standard error.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NAMES", "NETWORKS", "Target", "build", "half_decades"]

PRIME = 53
NETWORKS = ("memorised", "grokked")


@dataclass(frozen=True)
class Target:
    """One problem, the same for every tool.

    Attributes:
        name: its name.
        model: at w*.
        loss: (model, batch) → one value per example, or a scalar where there are no data.
        data: tensors whose first dimension counts examples, or None for a population loss.
        n_beta: nβ.
        gamma: γ.
        batch_size: examples a gradient, or None for all.
        truth: B.
        error: its standard error; 0 where exact.
        steps: half-decade grid of ε for first-order samplers.
    """

    name: str
    model: nn.Module
    loss: Callable[[nn.Module, Any], Tensor]
    data: tuple[Tensor, ...] | None
    n_beta: float
    gamma: float
    batch_size: int | None
    truth: float
    error: float
    steps: tuple[float, ...]

    @property
    def dimension(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def half_decades(largest: float, count: int = 4) -> tuple[float, ...]:
    """Steps down from the largest, two a decade, each rounded to one digit: 1 or 3."""
    top = round(2 * math.log10(largest))
    return tuple((3.0 if k % 2 else 1.0) * 10.0 ** (k // 2) for k in range(top, top - count, -1))


def temperature(size: float) -> float:
    return size / math.log(size)


# --- population losses -----------------------------------------------------------------------


class Quadratic(nn.Module):
    """Weights 0 in a rotated basis of eigenvalues h."""

    def __init__(self, h: Tensor) -> None:
        super().__init__()
        basis = torch.linalg.qr(_normal(0, len(h), len(h)))[0]
        self.w = nn.Parameter(torch.zeros(len(h)))
        self.register_buffer("hessian", (basis * h @ basis.T).float())


def quadratic_loss(model: nn.Module, _batch: Any) -> Tensor:
    return model.w @ (model.hessian @ model.w) / 2


class LinearNet(nn.Module):
    """Layers Q_s diag(σ, 0) Q_{s−1}ᵀ with shared orthogonal Q: every partial product has rank r.

    That makes the local coefficient at w* the global one of that rank. Rank 0 is w* = 0.
    """

    def __init__(self, widths: tuple[int, ...], rank: int) -> None:
        super().__init__()
        bases = [torch.linalg.qr(_normal(k, w, w))[0] for k, w in enumerate(widths)]
        sigma = torch.linspace(0.8, 1.2, rank, dtype=torch.float64)
        layers = [after[:, :rank] * sigma @ before[:, :rank].T for before, after in pairwise(bases)]
        self.layers = nn.ParameterList(nn.Parameter(layer.float()) for layer in layers)
        self.register_buffer("teacher", self.product().detach().clone())

    def product(self) -> Tensor:
        result = self.layers[0]
        for layer in list(self.layers)[1:]:
            result = layer @ result
        return result


def population_loss(model: nn.Module, _batch: Any) -> Tensor:
    return ((model.product() - model.teacher) ** 2).sum()


def exact_quadratic(h: Any, n_beta: float, gamma: float) -> float:
    """B = Σ ½ nβh/(nβh + γ)."""
    h = np.asarray(h, dtype=float)
    return float((n_beta * h / (n_beta * h + gamma)).sum() / 2)


def exact_zero_teacher(inputs: int, outputs: int, n_beta: float, gamma: float) -> float:
    """B of ‖BA‖² with two hidden units at w* = 0.

    Given A the posterior of B is Gaussian and integrates out; what is left depends on the two
    eigenvalues of AAᵀ, whose density is Wishart's, on a logarithmic grid.
    """
    u = np.linspace(-40, 6, 1501) - math.log(gamma)
    t, v = np.meshgrid(np.exp(u), np.exp(u), indexing="ij")
    share_t, share_v = (2 * n_beta * x / (2 * n_beta * x + gamma) for x in (t, v))
    log_weight = (
        (inputs - 1) / 2 * np.log(t * v)  # one power more than Wishart's: dt = t du
        - outputs / 2 * np.log((2 * n_beta * t + gamma) * (2 * n_beta * v + gamma))
        - gamma / 2 * (t + v)
    )
    weight = np.exp(log_weight - log_weight.max()) * abs(t - v)
    return float((outputs / 2 * (share_t + share_v) * weight).sum() / weight.sum())


# --- finite data -----------------------------------------------------------------------------


class Regression(nn.Module):
    """y = xᵀw."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w.float())


def regression_loss(model: nn.Module, batch: Any) -> Tensor:
    inputs, labels = batch
    return (inputs @ model.w - labels) ** 2


class ReluNet(nn.Module):
    """10-20-20-10, with biases: 850 parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = (10, 20, 20, 10)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        with torch.no_grad():
            for k, layer in enumerate(self.layers):
                scale = (2 / layer.in_features) ** 0.5
                layer.weight.copy_(scale * _normal(10 + k, *layer.weight.shape))
                layer.bias.copy_(0.1 * _normal(20 + k, len(layer.bias)))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


def squared_loss(model: nn.Module, batch: Any) -> Tensor:
    inputs, targets = batch
    return ((model(inputs) - targets) ** 2).sum(1)


class ModularAddition(nn.Module):
    """The network of `llc.tasks.modular_addition`, tensor for tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(PRIME, 12)
        self.left = nn.Linear(12, 48)
        self.right = nn.Linear(12, 48)
        self.unembedding = nn.Linear(48, PRIME, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        hidden = self.left(self.embedding(pairs[:, 0])) + self.right(self.embedding(pairs[:, 1]))
        return self.unembedding(F.gelu(hidden))


def behavioural_loss(model: nn.Module, batch: Any) -> Tensor:
    """KL from the checkpoint's own softmax, by example."""
    pairs, reference = batch
    return (reference.exp() * (reference - F.log_softmax(model(pairs), 1))).sum(1)


# --- the list --------------------------------------------------------------------------------


def _quadratic(_cache: Path) -> Target:
    h = torch.logspace(-3, 3, 50, dtype=torch.float64)
    n_beta, gamma = 1e3, 1.0
    return Target(
        "quadratic 1e6", Quadratic(h), quadratic_loss, None, n_beta, gamma, None,
        exact_quadratic(h, n_beta, gamma), 0.0, half_decades(3e-6),
    )  # fmt: skip


def _zero_teacher(_cache: Path) -> Target:
    n_beta, gamma = temperature(1e5), 1.0
    return Target(
        "8-2-8 rank 0", LinearNet((8, 2, 8), 0), population_loss, None, n_beta, gamma, None,
        exact_zero_teacher(8, 8, n_beta, gamma), 0.0, half_decades(1e-4),
    )  # fmt: skip


def _linear(name: str, widths: tuple[int, ...], rank: int, gamma: float, largest: float) -> Any:
    return lambda _cache: Target(
        name, LinearNet(widths, rank), population_loss, None, temperature(1e5), gamma, None,
        *LONG_RUNS[name], half_decades(largest),
    )  # fmt: skip


def _regression(name: str, batch_size: int | None, largest: float) -> Any:
    return lambda _cache: _noisy_regression(name, batch_size, largest)


def _noisy_regression(name: str, batch_size: int | None, largest: float) -> Target:
    size, dimension, gamma = 5000, 50, 1.0
    n_beta = temperature(size)
    inputs = (_normal(1, size, dimension) * torch.logspace(0, -1, dimension)).float().double()
    labels = (inputs @ _normal(2, dimension) + _normal(3, size)).float().double()
    minimum = torch.linalg.lstsq(inputs, labels[:, None]).solution[:, 0]
    hessian = 2 * inputs.T @ inputs / size
    truth = exact_quadratic(torch.linalg.eigvalsh(hessian), n_beta, gamma)
    return Target(
        name, Regression(minimum), regression_loss, (inputs.float(), labels.float()),
        n_beta, gamma, batch_size, truth, 0.0, half_decades(largest),
    )  # fmt: skip


def _relu(_cache: Path) -> Target:
    size = 10_000
    model = ReluNet()
    inputs = _normal(4, size, 10).float()
    with torch.no_grad():
        data = (inputs, model(inputs))
    return Target(
        "ReLU 10-20-20-10", model, squared_loss, data, temperature(size), 1.0, 500,
        *LONG_RUNS["ReLU 10-20-20-10"], half_decades(1e-5),
    )  # fmt: skip


def _network(name: str) -> Any:
    def make(cache: Path) -> Target:
        kept = torch.load(cache / f"{name}.pt")
        model = ModularAddition()
        model.load_state_dict(kept["weights"])
        with torch.no_grad():
            data = (kept["inputs"], F.log_softmax(model(kept["inputs"]), 1))
        truth, error = _long_run_of_network(name, model, cache)
        return Target(
            name, model, behavioural_loss, data, float(len(data[0])), 100.0, None,
            truth, error, half_decades(3e-3),
        )  # fmt: skip

    return make


LONG_RUNS: dict[str, tuple[float, float]] = {
    "20-10-20 rank 4": (115.0, 0.15),
    "10-10-10-10 rank 3": (41.19, 0.04),
    "30, eight layers": (143.0, 0.2),
    "ReLU 10-20-20-10": (math.nan, math.nan),
    "memorised": (420.5, 0.6),
    "grokked": (61.91, 0.08),
}
"""B and its standard error, by `cost_to_accuracy.py --references`."""

PRINTS = {
    "memorised": "4d316f47dfeac09ff9bcb5d889bd4cc43337218eafa26ba8ea8768134cc05973",
    "grokked": "a96dfe642df22184d0c1ac1e2d72cbb50c791dc9a633eb339c07eb244650fa8e",
}
"""SHA-256 of the trained weights whose B stands above: training differs from machine to machine."""

BUILDERS: dict[str, Callable[[Path], Target]] = {
    "quadratic 1e6": _quadratic,
    "8-2-8 rank 0": _zero_teacher,
    "20-10-20 rank 4": _linear("20-10-20 rank 4", (20, 10, 20), 4, 1.0, 3e-6),
    "10-10-10-10 rank 3": _linear("10-10-10-10 rank 3", (10,) * 4, 3, 1.0, 3e-7),
    "30, eight layers": _linear("30, eight layers", (30,) * 8, 5, 100.0, 1e-6),
    "regression, batch 250": _regression("regression, batch 250", 250, 1e-3),
    "regression, all data": _regression("regression, all data", None, 3e-3),
    "ReLU 10-20-20-10": _relu,
    "memorised": _network("memorised"),
    "grokked": _network("grokked"),
}
NAMES = tuple(BUILDERS)


def build(name: str, cache: Path) -> Target:
    """Build a target; ``cache`` holds the trained networks."""
    return BUILDERS[name](cache)


def _long_run_of_network(name: str, model: nn.Module, cache: Path) -> tuple[float, float]:
    """The stored B if these are the weights it was made for, else the one kept beside them."""
    path = cache / f"{name}.json"
    if fingerprint(model) == PRINTS[name]:
        return LONG_RUNS[name]
    return tuple(json.loads(path.read_text())) if path.exists() else (math.nan, math.nan)


def fingerprint(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
