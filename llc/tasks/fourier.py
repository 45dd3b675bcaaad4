"""Modular addition in the Fourier basis: which frequencies a network adds with, and how much.

A network that has understood addition modulo p computes logits Σ_k A_k cos(w_k(a + b − c)) with
w_k = 2πk/p for a few *key frequencies* k; one that has memorised shows none of it. The measures
here need logits of all p² pairs alone, so that they serve any architecture. Nanda et al. 2023
(arXiv 2301.05217), section 5.1 and appendix B.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llc.errors import InputError

__all__ = [
    "Measures", "all_logits", "amplitudes", "fourier_basis", "gini", "key_frequencies", "measure",
    "only_frequencies", "without_frequencies",
]  # fmt: skip


@dataclass(frozen=True)
class Measures:
    """What one network's logits say in the Fourier basis.

    Attributes:
        amplitudes: A_k of cos(w_k(a + b − c + φ)) in the logits, k = 1 … (p−1)/2, in nats.
        share: part of the logits' variance over pairs that each of them makes.
        restricted_loss: cross-entropy over all pairs from the key frequencies alone.
        excluded_loss: cross-entropy over the training pairs without them.
        gini: Gini coefficient of the squared amplitudes: 0 all alike, 1 a single one.
        embedding: norm of the embedding's component at each frequency; None without an embedding.
    """

    amplitudes: Tensor
    share: Tensor
    restricted_loss: float
    excluded_loss: float
    gini: float
    embedding: Tensor | None = None


def fourier_basis(prime: int) -> Tensor:
    """Return the real Fourier basis of functions on Z_p as orthonormal rows, shape ``(p, p)``.

    Rows are 1, cos(w_1 a), sin(w_1 a), cos(w_2 a), …, each divided by its norm, in float64.

    Raises:
        InputError: p is even or below 3.
    """
    if prime < 3 or prime % 2 == 0:
        raise InputError(f"prime is {prime}, expected an odd number of at least 3")
    angles = _angles(prime, torch.arange(prime))
    rows = torch.stack([angles.cos(), angles.sin()], 1).flatten(0, 1) * math.sqrt(2 / prime)
    return torch.cat([torch.full((1, prime), prime**-0.5, dtype=torch.float64), rows])


@torch.no_grad()
def all_logits(model: nn.Module, prime: int) -> Tensor:
    """Return logits of every pair (a, b) for the p sums, ``(p, p, p)`` in float64, mean over c 0.

    Raises:
        InputError: the model does not map pairs of numbers to at least p logits.
    """
    numbers = torch.arange(prime)
    pairs = torch.cartesian_prod(numbers, numbers)
    try:
        found = model(pairs)
    except (IndexError, RuntimeError, TypeError) as error:
        raise InputError(
            f"the model {type(model).__name__} failed on pairs of numbers below {prime} "
            f"({type(error).__name__}): Fourier measures are for networks that add modulo p"
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] < prime:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"the model's outputs are {shape}, expected ({prime**2}, at least {prime}): Fourier "
            "measures are for networks that add modulo p"
        )
    logits = found[:, :prime].double().reshape(prime, prime, prime)
    return logits - logits.mean(-1, keepdim=True)


def amplitudes(logits: Tensor) -> Tensor:
    """Return A_k of the logits' components along cos and sin of w_k(a + b), ``((p−1)/2,)``.

    Normalised so that logits Σ_k A_k cos(w_k(a + b − c) + φ_k) give back the A_k, in nats.

    Args:
        logits: of all pairs, shape ``(p, p, p)``.
    """
    prime = len(logits)
    power = _coefficients(logits).square().sum((1, 2))
    return (2 * power / prime**3).sqrt()


def key_frequencies(model: nn.Module, prime: int, share: float = 0.02) -> tuple[int, ...]:
    """Return the frequencies that make at least ``share`` of the logits' variance, by number.

    Args:
        model: pairs of numbers ``(batch, 2)`` → logits ``(batch, ≥ p)``.
        prime: p.
        share: from 0 to 1.
    """
    logits = all_logits(model, prime)
    parts = _share(logits, amplitudes(logits))
    return tuple(int(k) + 1 for k in (parts >= share).nonzero().flatten())


def measure(
    model: nn.Module, prime: int, train: tuple[Tensor, Tensor], frequencies: Sequence[int]
) -> Measures:
    """Measure a network against key frequencies, those of the end of its training as a rule.

    Args:
        model: pairs of numbers ``(batch, 2)`` → logits ``(batch, ≥ p)``.
        prime: p.
        train: pairs and sums it was trained on.
        frequencies: the key frequencies, between 1 and (p−1)/2.

    Raises:
        InputError: a frequency out of range, or a model of other shapes.
    """
    _check(frequencies, prime)
    logits = all_logits(model, prime)
    found = amplitudes(logits)
    key = _components(logits, frequencies)
    restricted = key + (logits - key).mean((0, 1))
    numbers = torch.arange(prime)
    sums = (numbers[:, None] + numbers) % prime
    pairs, targets = train
    excluded = (logits - key)[pairs[:, 0], pairs[:, 1]]
    weight = getattr(getattr(model, "embedding", None), "weight", None)
    return Measures(
        found,
        _share(logits, found),
        F.cross_entropy(restricted.flatten(0, 1), sums.flatten()).item(),
        F.cross_entropy(excluded, targets).item(),
        gini(found.square()),
        None if weight is None else _embedding_norms(weight.detach(), prime),
    )


def gini(values: Tensor) -> float:
    """Return the Gini coefficient ``Σ_ij |x_i − x_j| / (2 n Σ x)`` of non-negative values."""
    ordered = values.double().sort().values
    if ordered.sum() == 0:
        return 0.0
    size = len(ordered)
    ranks = torch.arange(1, size + 1, dtype=torch.float64)
    return float(((2 * ranks - size - 1) * ordered).sum() / (size * ordered.sum()))


def only_frequencies(
    weights: Mapping[str, Tensor], frequencies: Sequence[int], prime: int
) -> dict[str, Tensor]:
    """Keep of the embedding its mean and the given frequencies: the *restricted* network.

    Args:
        weights: with ``embedding.weight``, one row for each number first.
        frequencies: between 1 and (p−1)/2.
        prime: p.

    Raises:
        InputError: no such embedding, or a frequency out of range.
    """
    return _projected(weights, frequencies, prime, keep=True)


def without_frequencies(
    weights: Mapping[str, Tensor], frequencies: Sequence[int], prime: int
) -> dict[str, Tensor]:
    """Take the given frequencies out of the embedding: the *excluded* network.

    Args:
        weights: with ``embedding.weight``, one row for each number first.
        frequencies: between 1 and (p−1)/2.
        prime: p.

    Raises:
        InputError: no such embedding, or a frequency out of range.
    """
    return _projected(weights, frequencies, prime, keep=False)


def _projected(
    weights: Mapping[str, Tensor], frequencies: Sequence[int], prime: int, keep: bool
) -> dict[str, Tensor]:
    _check(frequencies, prime)
    table = weights.get("embedding.weight")
    if table is None or table.ndim != 2 or len(table) < prime:
        raise InputError(
            f"the checkpoint has no embedding.weight with a row for each of {prime} numbers: "
            "frequencies can be taken only out of such a table"
        )
    rows = _rows(frequencies) if not keep else [0, *_rows(frequencies)]
    basis = fourier_basis(prime)[rows]
    part = basis.T @ (basis @ table[:prime].double())
    changed = table.clone()
    changed[:prime] = (part if keep else table[:prime].double() - part).to(table.dtype)
    return {**weights, "embedding.weight": changed}


def _rows(frequencies: Sequence[int]) -> list[int]:
    return [row for k in frequencies for row in (2 * k - 1, 2 * k)]


def _angles(prime: int, values: Tensor) -> Tensor:
    """w_k·values for k = 1 … (p−1)/2 along a new first axis; reduced modulo p to stay exact."""
    k = torch.arange(1, (prime + 1) // 2).reshape(-1, *[1] * values.ndim)
    return (k * values % prime).double() * (2 * math.pi / prime)


def _coefficients(logits: Tensor) -> Tensor:
    """Σ_ab of the logits times the unit functions cos and sin of w_k(a + b): ``(k, 2, p)``."""
    prime = len(logits)
    return torch.einsum("ksn,nc->ksc", _waves(prime), _by_sum(logits)) * (math.sqrt(2) / prime)


def _by_sum(logits: Tensor) -> Tensor:
    """Sum over all pairs of each a + b modulo p, which waves of a + b cannot tell apart."""
    prime = len(logits)
    numbers = torch.arange(prime)
    sums = ((numbers[:, None] + numbers) % prime).flatten()
    return logits.new_zeros(prime, prime).index_add_(0, sums, logits.flatten(0, 1))


def _waves(prime: int) -> Tensor:
    angles = _angles(prime, torch.arange(prime))
    return torch.stack([angles.cos(), angles.sin()], 1)


def _components(logits: Tensor, frequencies: Sequence[int]) -> Tensor:
    """The part of the logits along cos and sin of w_k(a + b), summed over frequencies."""
    prime = len(logits)
    chosen = [k - 1 for k in frequencies]
    waves, found = _waves(prime)[chosen], _coefficients(logits)[chosen]
    of_sum = torch.einsum("ksn,ksc->nc", waves, found) * (math.sqrt(2) / prime)
    numbers = torch.arange(prime)
    return of_sum[(numbers[:, None] + numbers) % prime]


def _share(logits: Tensor, found: Tensor) -> Tensor:
    total = (logits - logits.mean((0, 1))).square().sum()
    power = found.square() * (len(logits) ** 3 / 2)
    return power / total if total > 0 else torch.zeros_like(power)


def _embedding_norms(table: Tensor, prime: int) -> Tensor:
    parts = fourier_basis(prime)[1:] @ table[:prime].double()
    return parts.unflatten(0, (-1, 2)).square().sum((1, 2)).sqrt()


def _check(frequencies: Sequence[int], prime: int) -> None:
    wrong = [k for k in frequencies if not 1 <= k <= (prime - 1) // 2]
    if wrong:
        raise InputError(
            f"frequency {wrong[0]} is out of range, expected whole numbers from 1 to "
            f"{(prime - 1) // 2} for p = {prime}"
        )
