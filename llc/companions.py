"""What is free beside an estimate: curvature at w*, and a bracket for λ at a zero of the loss."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llc.errors import InputError
from llc.estimation.curvature import (
    Curvature,
    spectrum_by_forming,
    spectrum_by_probes,
    threshold,
)
from llc.estimation.precise import precise_objective
from llc.estimation.products import MATRICES, Products
from llc.estimation.ranks import rank_at_minimum, rank_of_outputs
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.parts import as_strings
from llc.task import Task

__all__ = ["bracket", "curvature"]

FORMED = 2000
MOST_FORMED = 20_000


def curvature(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    potential: Callable[[nn.Module], Tensor] | None = None,
    n_beta: float | None = None,
    gamma: float | None = None,
    matrix: str | None = None,
    top: int = 10,
    probes: int = 16,
    steps: int = 64,
    exact: bool | None = None,
    tolerance: float | None = None,
    only: str | Sequence[str] | Mapping[str, Tensor | None] | None = None,
    behavioural: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    memory: float | None = None,
) -> Curvature:
    """Measure the curvature of the loss at w*: eigenvalues, trace, effective dimension, rank.

    N_eff(α) = Σ h_i/(h_i + α) with α = γ/nβ is twice what the LLC estimator returns on a quadratic
    loss of the same curvature. Computed in double precision where the model runs in it, over all
    data a manageable part at a time. The model is copied, never touched.

    Args:
        model: an ``nn.Module`` at w*, or a `Task`, which brings its own data and loss.
        data: as for `llc.estimate`.
        loss: as for `llc.estimate`.
        batch_loss: as for `llc.estimate`.
        potential: as for `llc.estimate`.
        n_beta: nβ; n/ln n with n the size of the data set unless given.
        gamma: γ; without it `Curvature.effective_dimension` has to be told α.
        matrix: ``"ggn"``, the Gauss–Newton matrix JᵀH_out J, never negative for a loss that is
            convex in the outputs, or ``"hessian"``; ``"ggn"`` unless given where the loss is one of
            (outputs, targets).
        top: number of leading eigenvalues to return.
        probes: random probes for the sums, where the matrix is not formed.
        steps: Lanczos steps a probe; raise them where α is far below the largest eigenvalue.
        exact: form the matrix, for D products of D² numbers; up to 2,000 parameters unless given.
        tolerance: below it an eigenvalue counts as zero in the rank; what rounding of weights and
            computation may leave of a zero unless given.
        only: the part of the weights that counts, as `llc.estimate`.
        behavioural: replace the targets by the model's own outputs at w*, which makes the Hessian
            the Gauss–Newton matrix (for cross-entropy the Fisher information).
        seed: seeds the probes; the process's own generators are left alone.
        device: where to compute; the model's own unless given.
        memory: GiB that activations may take, 80 % of what is free unless given.

    Returns:
        The numbers with their standard errors.

    Raises:
        InputError: something given cannot be used; one sentence says what to give instead.
    """
    started = time.perf_counter()
    _check_numbers(n_beta, gamma, tolerance, top, probes, steps, seed)
    task = Task.of(model, data, loss, batch_loss, potential)
    chosen = _matrix(matrix, task)
    execution = Execution(device, "off", memory)
    with undisturbed():
        objective, own = precise_objective(task, behavioural, execution, as_strings(only))
        size = objective.layout.total
        exact = size <= FORMED if exact is None else exact
        if exact and size > MOST_FORMED:
            raise InputError(
                f"exact=True for {size} parameters would form a matrix of {size**2 * 8 / 1e9:.0f} "
                f"GB, expected {MOST_FORMED} parameters at most: leave exact out"
            )
        products = Products(objective, chosen, execution.limit(objective.device))
        exact = exact or size <= 2  # too few for ARPACK
        spectrum = (
            spectrum_by_forming(products, objective.centre)
            if exact
            else spectrum_by_probes(
                products, objective.centre, top=top, probes=probes, steps=steps, seed=seed
            )
        )
    values = spectrum.known[:top]
    largest = float(values[0]) if len(values) else 0.0
    limit = tolerance
    if limit is None:
        limit = threshold(chosen, largest, size, own, objective.layout.dtype)
    trace, trace_se = spectrum.trace()
    ratio, ratio_se = spectrum.participation_ratio()
    rank, rank_se = spectrum.count_above(limit)
    if n_beta is None and objective.size is not None and objective.size > 2:
        n_beta = objective.size / math.log(objective.size)
    return Curvature(
        matrix=chosen,
        dimension=size,
        eigenvalues=tuple(float(v) for v in values),
        smallest=spectrum.smallest,
        trace=trace,
        trace_se=trace_se,
        participation_ratio=ratio,
        participation_ratio_se=ratio_se,
        rank=rank,
        rank_se=rank_se,
        tolerance=float(limit),
        exact=exact,
        n_beta=n_beta,
        gamma=gamma,
        products=products.count,
        dtype=str(objective.layout.dtype).removeprefix("torch."),
        seconds=time.perf_counter() - started,
        spectrum=spectrum,
    )


def bracket(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    potential: Callable[[nn.Module], Tensor] | None = None,
    behavioural: bool = False,
    device: torch.device | str | None = None,
) -> tuple[float, float]:
    """Return bounds that need no sampling: rank(J)/2 ≤ λ ≤ d/2 at a zero of the loss.

    J is the Jacobian of the outputs by the d parameters over all data, weighed by the square root
    of the loss's own Hessian H_out, so that directions that the loss does not see, such as all
    logits together, are not counted. For a potential or a batch_loss half the rank of the Hessian
    takes its place, which bounds λ at any minimum. Lower bound: the directions that act at second
    order split off as a regular model, and what is left adds nothing negative; upper bound: the
    loss rises at most as a square (Watanabe 2009, ch. 7). Where the rank is constant
    along the zeros around w*, λ is the lower bound. Singular values that w* may owe to being only
    near a zero are not counted, which can only lower the lower bound.

    Args:
        model: an ``nn.Module`` at w*, or a `Task`, which brings its own data and loss.
        data: as for `llc.estimate`.
        loss: as for `llc.estimate`.
        batch_loss: as for `llc.estimate`.
        potential: as for `llc.estimate`.
        behavioural: measure towards the model's own outputs at w*, which makes w* a zero.
        device: where to compute; the model's own unless given.

    Returns:
        The lower and the upper bound.

    Raises:
        InputError: more than 2,000 parameters, or w* is no zero (with a potential or a batch_loss:
            no minimum) of the loss.
    """
    task = Task.of(model, data, loss, batch_loss, potential)
    trainable = sum(p.numel() for p in task.model.parameters() if p.requires_grad)
    if trainable > FORMED:
        raise InputError(
            f"the model has {trainable} parameters, expected {FORMED} at most for an exact rank: "
            "use llc.curvature, whose rank is measured by random probes"
        )
    execution = Execution(device, "off")
    with undisturbed():
        objective, own = precise_objective(task, behavioural, execution)
        if objective.module.loss is None:
            rank = rank_at_minimum(objective, own, execution)
        else:
            rank = rank_of_outputs(objective, own)
    return rank / 2, objective.layout.total / 2


def _matrix(matrix: str | None, task: Task) -> str:
    if matrix is None:
        return "hessian" if task.loss is None else "ggn"
    if matrix not in MATRICES:
        raise InputError(f"matrix is {matrix!r}, expected one of {', '.join(map(repr, MATRICES))}")
    return matrix


def _check_numbers(
    n_beta: float | None,
    gamma: float | None,
    tolerance: float | None,
    top: int,
    probes: int,
    steps: int,
    seed: int,
) -> None:
    for name, value in (("n_beta", n_beta), ("gamma", gamma), ("tolerance", tolerance)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            raise InputError(f"{name} is {value!r}, expected a positive number: leave it out")
    for name, count, least in (("top", top, 1), ("probes", probes, 2), ("steps", steps, 2),
                               ("seed", seed, 0)):  # fmt: skip
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise InputError(f"{name} is {count!r}, expected a whole number of at least {least}")
