"""Addition modulo p by a small network: memorised in 2,000 steps, understood in 25,000.

The architecture is the fast test bed of grokking studies: one embedding of width 12 for both
numbers, a linear map of each to 48 hidden units, their sum through GELU, and an unembedding
without bias; 4,428 parameters at p = 53. Trained by Adam with L2 decay on 40 % of all pairs.
Grokking: Power et al. 2022 (arXiv 2201.02177); Nanda et al. 2023 (arXiv 2301.05217).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llc.checkpoints import save_checkpoint
from llc.errors import InputError
from llc.params import stream_seed
from llc.symmetry import Offset, Units
from llc.task import Task

__all__ = [
    "Data", "ModularAddition", "checkpoint_steps", "make_data", "measure", "task", "train",
]  # fmt: skip

EMBEDDING = 12
HIDDEN = 48
SHARE = 0.4
BATCH = 128
LEARNING_RATE = 5e-3
DECAY = 2e-4
EXTRA = 20


SIDES = ("left", "right")
SYMMETRIES = (
    Units(
        ["left.weight", "left.bias", "right.weight", "right.bias"],
        ["unembedding.weight"],
        name="hidden units",
    ),
    Units(
        [("embedding.weight", 1)],
        ["left.weight", "right.weight"],
        "linear",
        name="embedding's basis",
    ),
    Offset(
        ("embedding.weight", 1),
        [(f"{side}.weight", f"{side}.bias") for side in SIDES],
        name="embedding's origin",
    ),
    Offset("left.bias", ["right.bias"], name="biases of left and right"),
    Offset(("unembedding.weight", 1), name="all logits together", preserves="loss"),
)


class ModularAddition(nn.Module):
    """Logits over p sums from pairs of numbers, ``(batch, 2)`` → ``(batch, p)``."""

    def __init__(self, prime: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(prime, EMBEDDING)
        self.left = nn.Linear(EMBEDDING, HIDDEN)
        self.right = nn.Linear(EMBEDDING, HIDDEN)
        self.unembedding = nn.Linear(HIDDEN, prime, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return logits."""
        hidden = self.left(self.embedding(pairs[:, 0])) + self.right(self.embedding(pairs[:, 1]))
        return self.unembedding(F.gelu(hidden))


@dataclass(frozen=True)
class Data:
    """Training and held-out pairs with their targets."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def make_data(
    prime: int = 53, seed: int = 0, random_labels: bool = False, share: float = SHARE
) -> Data:
    """Split all p² pairs; ``random_labels`` draws every target at random: nothing to learn.

    Raises:
        InputError: ``prime`` is below 5 (too few pairs to split).
    """
    if prime < 5:
        raise InputError(f"prime is {prime}, expected a whole number of at least 5")
    generator = _generator(seed, "data")
    numbers = torch.arange(prime)
    pairs = torch.cartesian_prod(numbers, numbers)
    targets = pairs.sum(1) % prime
    order = torch.randperm(len(pairs), generator=generator)
    if random_labels:
        targets = torch.randint(prime, (len(pairs),), generator=generator)
    cut = int(share * len(pairs))
    first, rest = order[:cut], order[cut:]
    return Data((pairs[first], targets[first]), (pairs[rest], targets[rest]))


def task(prime: int = 53, seed: int = 0, random_labels: bool = False) -> Task:
    """Return the task on its training pairs, the model freshly initialised; the rest as a reading.

    The held-out pairs are the data set ``"test"`` among its readings.

    Args:
        prime: p; pairs are those of numbers below it.
        seed: of the initial weights, the split of the pairs, and random labels.
        random_labels: targets drawn at random, of which nothing can be understood.
    """
    data = make_data(prime, seed, random_labels)
    name = "modular addition" + (", random labels" if random_labels else "")
    return Task(
        _initialised(prime, seed), data.train, "cross_entropy", name=name,
        readings={"test": data.test}, symmetries=SYMMETRIES,
    )  # fmt: skip


def checkpoint_steps(steps: int, count: int) -> list[int]:
    """Choose about ``count`` steps: half on a log grid from 10 on, half evenly spaced.

    The log half is dense while the network memorises; the even half covers the later change,
    whose time is not known beforehand.
    """
    count = min(count, steps)
    log = np.geomspace(min(10, steps), steps, count)
    even = np.linspace(steps / count, steps, count)
    chosen: set[int] = {steps}
    # Both grids thin out evenly until their union has the size asked for.
    for wanted in range(2, 2 * count):
        picks = [
            grid[np.linspace(0, count - 1, (wanted + 1) // 2).astype(int)] for grid in (log, even)
        ]
        chosen = {round(float(step)) for step in np.concatenate(picks)} | {steps}
        if len(chosen) >= count:
            break
    return sorted(chosen)


def train(
    folder: Path,
    *,
    steps: int,
    save_at: list[int],
    prime: int = 53,
    seed: int = 0,
    random_labels: bool = False,
    follow_change: bool = True,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Train from scratch and write a checkpoint, with losses and accuracies, at each given step.

    With ``follow_change`` checkpoints are also written every 1/160 of the run, 20 at most, while
    held-out accuracy is between 10 and 99 %: when that happens is not known beforehand.
    Deterministic in its arguments on one machine; global random state is neither read nor left
    changed.

    Args:
        folder: where the checkpoints go.
        steps: of Adam.
        save_at: steps to save at.
        prime: p.
        seed: of initial weights, split, random labels and batches.
        random_labels: targets drawn at random, for a control.
        follow_change: save more where held-out accuracy rises.
        report: called with the number of steps done.
    """
    data = make_data(prime, seed, random_labels)
    model = _initialised(prime, seed)
    order = _generator(seed, "batches")
    optimiser = torch.optim.Adam(
        model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY, fused=True
    )
    inputs, targets = data.train
    wanted, extra = set(save_at), EXTRA if follow_change else 0
    look_every = max(1, steps // 160)
    for step in range(1, steps + 1):
        index = torch.randint(len(targets), (BATCH,), generator=order)
        optimiser.zero_grad()
        F.cross_entropy(model(inputs[index]), targets[index]).backward()
        optimiser.step()
        looking = extra and step % look_every == 0 and step not in wanted
        if looking and 0.1 < _accuracy(model, data.test) < 0.99:
            wanted.add(step)
            extra -= 1
        if step in wanted:
            save_checkpoint(folder, step, model.state_dict(), measure(model, data))
        if step % 200 == 0 or step == steps:
            report(step)


@torch.no_grad()
def measure(model: nn.Module, data: Data) -> dict[str, float]:
    """Return loss, accuracy and weight norm, under the names figures look for."""
    result = {}
    for part, (inputs, targets) in (("train", data.train), ("test", data.test)):
        result[f"{part}_loss"] = F.cross_entropy(model(inputs), targets).item()
        result[f"{part}_accuracy"] = _accuracy(model, (inputs, targets))
    squares = sum(p.double().square().sum().item() for p in model.parameters())
    result["weight_norm"] = squares**0.5
    return result


@torch.no_grad()
def _accuracy(model: nn.Module, pairs: tuple[Tensor, Tensor]) -> float:
    return (model(pairs[0]).argmax(1) == pairs[1]).float().mean().item()


def _initialised(prime: int, seed: int) -> ModularAddition:
    """Build the model with torch's default initialisation, drawn from a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation", 0))
        return ModularAddition(prime)


def _generator(seed: int, purpose: str) -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed(stream_seed(seed, purpose, 0))
    return generator
