"""The toy model of superposition trained from small weights: nothing, then a polygon.

x = ζ e_i, i uniform over the features, ζ ~ U(0, 1), is rebuilt as ReLU(WᵀWx + b) through two hidden
dimensions. From small weights training leaves zero, may dwell at polygons that are saddles, and
ends at one whose corners are the features it represents (Elhage et al. 2022; Chen, Lau, Mendel, Wei
& Murfet 2023, arXiv 2310.06301).
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llc.checkpoints import save_checkpoint
from llc.errors import InputError
from llc.params import stream_seed
from llc.symmetry import Units
from llc.task import Task
from llc.truths import formulas
from llc.truths.polygons import Superposition, population_loss

__all__ = ["checkpoint_steps", "exact_llc", "label", "task", "train"]

FEATURES = 6
STEPS = 3000
LEARNING_RATE = 0.05
START = 0.001
FEWEST = 5
"""Corners of the smallest polygon with a clean λ: columns of a square are on the ReLU's kink."""
SHORT, LONG, EVEN = 0.1, 0.5, 0.05


def task(features: int = FEATURES, seed: int = 0, levels: int = 32) -> Task:
    """Return the task of rebuilding its inputs, the model freshly initialised.

    Inputs are ζ e_i at the middles of equal intervals of ζ, so that the mean square error is the
    population loss over the number of features up to terms in 1/levels².

    Args:
        features: at least 5.
        seed: of the initial weights.
        levels: values of ζ for each feature.

    Raises:
        InputError: fewer than 5 features, or no level.
    """
    model = _initial(features, seed).float()
    zeta = (torch.arange(formulas.whole("levels", levels, 1)) + 0.5) / levels
    x = torch.einsum("q,ij->qij", zeta, torch.eye(features)).reshape(-1, features)
    symmetries = [
        Units(["w"], activation="isotropic", name="hidden plane"),
        # The data are alike under a change of places of all features, inputs and outputs.
        Units([("w", 1), "b"], name="features", preserves="loss"),
    ]
    name = f"superposition of {features}"
    return Task(model, (x, x), "mse", name=name, symmetries=symmetries)


def train(
    folder: Path,
    *,
    features: int = FEATURES,
    steps: int = STEPS,
    save_at: Sequence[int] | None = None,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> None:
    """Train by gradient descent on the population loss and write a checkpoint at each given step.

    Beside the weights are saved ``train_loss`` (that of `task`), ``polygon`` (corners, 0 at the
    beginning, -1 where columns are of all lengths), ``exact_llc`` where it is known, and
    ``weight_norm``. Deterministic in its arguments; global random state is neither read nor
    changed.

    Args:
        folder: where the checkpoints go.
        features: at least 5.
        steps: of gradient descent, rate 0.05 times the number of features.
        save_at: steps to save at; `checkpoint_steps` chooses unless given.
        seed: of the initial weights.
        report: called with the number of steps done.

    Raises:
        InputError: fewer than 5 features.
    """
    model = _initial(features, seed)
    wanted = set(checkpoint_steps(steps) if save_at is None else save_at)
    for step in range(1, steps + 1):
        gradients = torch.autograd.grad(population_loss(model), [model.w, model.b])
        with torch.no_grad():
            model.w.sub_(LEARNING_RATE * features * gradients[0])
            model.b.sub_(LEARNING_RATE * features * gradients[1])
        if step in wanted:
            _save(folder, step, model)
        if report is not None and (step % 200 == 0 or step == steps):
            report(step)


def checkpoint_steps(steps: int = STEPS, count: int = 30) -> list[int]:
    """Choose steps evenly in log step over the last 2.5 decades."""
    return sorted({max(1, round(float(s))) for s in np.geomspace(steps / 300, steps, count)})


def label(weights: Mapping[str, Tensor]) -> int:
    """Return the number of corners, 0 where all columns are short, -1 where they are in between.

    A polygon has columns that are all alike within 5 %, or below a tenth in length; nothing is
    learned while all are below a tenth.
    """
    lengths = weights["w"].double().norm(dim=0)
    if bool((lengths < SHORT).all()):
        return 0
    corners = lengths[lengths > LONG]
    between = ((lengths >= SHORT) & (lengths <= LONG)).any()
    uneven = len(corners) == 0 or corners.max() > (1 + EVEN) * corners.min()
    return -1 if bool(between) or bool(uneven) else len(corners)


def exact_llc(weights: Mapping[str, Tensor]) -> Fraction | None:
    """λ of a checkpoint towards its own outputs, or None away from what is known.

    With c features: at zero weights and positive biases c, half from the biases at second order,
    and 2c/4 from the weights, which act at fourth; at a regular k-gon, k ≥ 5, (3k − 1)/2, plus 3/2
    for each feature left out whose bias is positive: its outputs are always on, and its column and
    bias act at second order. Ranks of the Jacobian of the outputs; `llc.truths.polygon` for those
    left out with negative bias.
    """
    corners, biases = label(weights), weights["b"].double()
    if corners == 0 and bool((biases > 0).all()):
        return Fraction(len(biases))
    if corners < FEWEST:
        return None
    left = biases[weights["w"].double().norm(dim=0) < SHORT]
    return Fraction(3 * corners - 1 + 3 * int((left > 0).sum()), 2)


def _initial(features: int, seed: int) -> Superposition:
    if formulas.whole("features", features, 1) < FEWEST:
        raise InputError(f"features is {features}, expected a whole number of at least {FEWEST}")
    generator = torch.Generator().manual_seed(stream_seed(seed, "initialisation", 0))
    w = START * torch.randn(2, features, generator=generator, dtype=torch.float64)
    # What the biases settle at while nothing is represented: the mean of each input.
    b = torch.full((features,), 0.5 / features, dtype=torch.float64)
    return Superposition(w, b)


def _save(folder: Path, step: int, model: Superposition) -> None:
    weights = {name: value.detach().float() for name, value in model.state_dict().items()}
    exact = exact_llc(weights)
    numbers = {
        "train_loss": population_loss(model).item() / len(model.b),
        "polygon": float(label(weights)),
        "weight_norm": float(sum(p.detach().square().sum() for p in model.parameters())) ** 0.5,
    }
    numbers |= {} if exact is None else {"exact_llc": float(exact)}
    save_checkpoint(folder, step, weights, numbers)
