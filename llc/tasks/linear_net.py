"""Linear nets trained from small weights: one rank after another, λ known at each.

A net W_L ⋯ W_1 descends the population loss ½‖W_L ⋯ W_1 − T‖² with x ~ N(0, 1) and
T = diag(values). From small weights the directions of T are learned one at a time, the strongest
first (Saxe, McClelland & Ganguli 2014, arXiv 1312.6120), and through a bottleneck each rank moves λ
by a known amount (Aoyagi 2024, Neural Networks 172:106132). A net that is wide everywhere has the
same λ at every rank: nothing to find.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llc.checkpoints import save_checkpoint
from llc.diagnostics import Array
from llc.errors import InputError
from llc.params import stream_seed
from llc.symmetry import Units
from llc.task import Task
from llc.truths import formulas
from llc.truths.linear import LinearNet

__all__ = [
    "RankTime",
    "checkpoint_steps",
    "exact_llc",
    "rank_of",
    "rank_times",
    "task",
    "train",
]

WIDTHS = (10, 4, 10)
STRONGEST = 8.0
MOST_RANKS = 4
LEARNING_RATE = 0.01
STEPS = 3000
SHARES = (0.02, 0.5, 0.98)
RAN_AWAY = 1e6


@dataclass(frozen=True)
class RankTime:
    """When one rank was learned: the steps at which 2, 50 and 98 % of its value were reached.

    Attributes:
        rank: the rank reached, from 1 on.
        start: step at 2 %, from which on it stays above until half.
        half: first step at half; None where training ended before.
        end: first step at 98 %; None where training ended before.
        before: λ of the rank below.
        after: λ of this rank.
    """

    rank: int
    start: int
    half: int | None
    end: int | None
    before: Fraction
    after: Fraction


def task(
    widths: Sequence[int] = WIDTHS,
    values: Sequence[float] | None = None,
    seed: int = 0,
    examples: int = 1024,
) -> Task:
    """Return the task of a linear net towards T, the model freshly initialised.

    The inputs' second moment is exactly the identity, so that the mean square error is the
    population loss ‖W_L ⋯ W_1 − T‖² over the number of outputs, whatever the number of examples.

    Args:
        widths: inputs, hidden widths, outputs.
        values: singular values of T, falling; 8, 4, 2, 1 as far as the widths allow unless given.
        seed: of the initial weights and the inputs.
        examples: at least the number of inputs; the default nβ = n/ln n follows from it.

    Raises:
        InputError: widths, values or a number of examples that no such task has.
    """
    widths, teacher = _teacher(widths, values)
    formulas.whole("examples", examples, widths[0])
    generator = torch.Generator().manual_seed(stream_seed(seed, "data", 0))
    noise = torch.randn(examples, widths[0], generator=generator, dtype=torch.float64)
    x = torch.linalg.qr(noise)[0] * math.sqrt(examples)
    y = x @ torch.from_numpy(teacher).T
    layers = [torch.from_numpy(layer).float() for layer in _initial(widths, seed)]
    name = f"linear net {'-'.join(map(str, widths))}"
    symmetries = [
        Units([f"layers.{i}"], [f"layers.{i + 1}"], "linear", name=f"hidden layer {i + 1}")
        for i in range(len(widths) - 2)
    ]
    return Task(LinearNet(layers), (x.float(), y.float()), "mse", name=name, symmetries=symmetries)


def train(
    folder: Path,
    *,
    widths: Sequence[int] = WIDTHS,
    values: Sequence[float] | None = None,
    steps: int = STEPS,
    save_at: Sequence[int] | None = None,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> None:
    """Train from small weights by gradient descent and write a checkpoint at each given step.

    Beside the weights are saved ``train_loss``, ``rank``, ``exact_llc`` and ``weight_norm``; the
    first is the loss of `task`. Deterministic in its arguments; global random state is neither read
    nor changed. Weights start as N(0, s²) with s = 1e-4 for two layers and 0.05 for more, since
    deeper nets leave zero as a power of time, not exponentially.

    Args:
        folder: where the checkpoints go.
        widths: as for `task`.
        values: as for `task`.
        steps: of gradient descent, rate 0.01.
        save_at: steps to save at; `checkpoint_steps` chooses unless given.
        seed: of the initial weights.
        report: called with the number of steps done.

    Raises:
        InputError: as for `task`, or training ran away.
    """
    widths, teacher = _teacher(widths, values)
    wanted = set(checkpoint_steps(steps) if save_at is None else save_at)
    for step, layers in _descend(widths, teacher, steps, seed):
        if step in wanted:
            _save(folder, step, layers, teacher)
        if report is not None and (step % 200 == 0 or step == steps):
            report(step)


def checkpoint_steps(steps: int = STEPS, count: int = 30) -> list[int]:
    """Choose steps evenly in log step over the last 1.8 decades, where ranks are learned."""
    return sorted({round(float(step)) for step in np.geomspace(steps / 60, steps, count)})


def exact_llc(widths: Sequence[int], rank: int) -> Fraction:
    """λ of a linear net that has learned so many ranks (Aoyagi 2024).

    It is the local one too where every layer has that rank, as after training from small weights.

    Raises:
        InputError: widths or a rank that no such net has.
    """
    return formulas.deep_linear(widths, rank)[0]


def rank_of(weights: Mapping[str, Tensor], values: Sequence[float] | None = None) -> int:
    """Ranks learned: directions of T of which a checkpoint has at least half.

    Args:
        weights: a checkpoint's state dict.
        values: as for `task`.

    Raises:
        InputError: the weights are not those of a linear net.
    """
    names = sorted(weights, key=lambda name: int(name.rpartition(".")[2]))
    layers = [weights[name].double().numpy() for name in names]
    widths = [layers[0].shape[1], *(layer.shape[0] for layer in layers)]
    return int((_learned(layers, _teacher(widths, values)[1]) >= 0.5).sum())


def rank_times(
    widths: Sequence[int] = WIDTHS,
    values: Sequence[float] | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> list[RankTime]:
    """Train again, without writing, and note when each rank was learned.

    Ranks that have not begun within the steps are left out.

    Raises:
        InputError: as for `train`.
    """
    widths, teacher = _teacher(widths, values)
    ranks = int((np.diag(teacher) > 0).sum())
    reached = {share: np.full(ranks, -1) for share in SHARES}
    for step, layers in _descend(widths, teacher, steps, seed):
        learned = _learned(layers, teacher)
        for share, when in reached.items():
            when[(when < 0) & (learned >= share)] = step
        # Earlier ranks pass small shares of later directions on their way.
        reached[SHARES[0]][(learned < SHARES[0]) & (reached[SHARES[1]] < 0)] = -1
    times = [
        [int(when[r]) if when[r] >= 0 else None for when in reached.values()] for r in range(ranks)
    ]
    return [
        RankTime(r + 1, start, half, end, exact_llc(widths, r), exact_llc(widths, r + 1))
        for r, (start, half, end) in enumerate(times)
        if start is not None
    ]


def _teacher(
    widths: Sequence[int], values: Sequence[float] | None
) -> tuple[tuple[int, ...], Array]:
    """Check sizes; return them with T, shape (outputs, inputs)."""
    sizes = tuple(formulas.whole(f"widths[{i}]", width, 1) for i, width in enumerate(widths))
    if len(sizes) < 3:
        raise InputError(f"widths is {list(sizes)}, expected inputs, hidden widths and outputs")
    most = min(sizes)
    if values is None:
        values = [STRONGEST / 2**i for i in range(min(MOST_RANKS, most))]
    if len(values) > most or any(not v > 0 for v in values) or list(values) != sorted(values)[::-1]:
        raise InputError(
            f"values is {list(values)}, expected at most {most} positive numbers, the largest first"
        )
    teacher = np.zeros((sizes[-1], sizes[0]))
    teacher[range(len(values)), range(len(values))] = values
    return sizes, teacher


def _initial(widths: Sequence[int], seed: int) -> list[Array]:
    rng = np.random.default_rng(stream_seed(seed, "initialisation", 0))
    scale = 1e-4 if len(widths) == 3 else 0.05
    return [scale * rng.normal(size=(out, into)) for into, out in pairwise(widths)]


def _descend(
    widths: Sequence[int], teacher: Array, steps: int, seed: int
) -> Iterator[tuple[int, list[Array]]]:
    """Yield (step, layers) after each step of gradient descent on ½‖W_L ⋯ W_1 − T‖²."""
    layers = _initial(widths, seed)
    for step in range(1, steps + 1):
        below = [np.eye(widths[0])]
        for layer in layers:
            below.append(layer @ below[-1])
        above = below[-1] - teacher
        for i in reversed(range(len(layers))):
            gradient = above @ below[i].T
            above = layers[i].T @ above
            layers[i] = layers[i] - LEARNING_RATE * gradient
        if not all(np.abs(layer).max() < RAN_AWAY for layer in layers):
            raise InputError(
                f"training ran away at step {step}: give smaller values than {teacher.max():g}"
            )
        yield step, layers


def _learned(layers: Sequence[Array], teacher: Array) -> Array:
    """Singular values of the product over those of T, (ranks,), the largest first.

    Not those along the directions of T: with near ties a direction between two of them is learned
    first.
    """
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    wanted = np.diag(teacher)[np.diag(teacher) > 0]
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(_smaller_gram(product)), 0))
    return values[::-1][: len(wanted)] / wanted


def _smaller_gram(product: Array) -> Array:
    return product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product


def _save(folder: Path, step: int, layers: Sequence[Array], teacher: Array) -> None:
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    rank = int((_learned(layers, teacher) >= 0.5).sum())
    widths = [layers[0].shape[1], *(layer.shape[0] for layer in layers)]
    numbers = {
        "train_loss": float(((product - teacher) ** 2).sum()) / widths[-1],
        "rank": rank,
        "exact_llc": float(exact_llc(widths, rank)),
        "weight_norm": float(sum((layer**2).sum() for layer in layers)) ** 0.5,
    }
    weights = {f"layers.{i}": torch.from_numpy(layer).float() for i, layer in enumerate(layers)}
    save_checkpoint(folder, step, weights, numbers)
