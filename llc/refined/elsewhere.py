"""The loss on other data under the posterior of a data set: data-refined LLCs."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from llc import diagnostics
from llc.calibration import resolve
from llc.errors import InputError
from llc.estimation import Estimate
from llc.estimation.estimate import rounded
from llc.estimator import measure
from llc.execution import Execution
from llc.following import choose_examples, follow_losses
from llc.isolation import undisturbed
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task

__all__ = ["DataRefined", "data_refined"]

CHUNK = 4096


@dataclass(frozen=True)
class DataRefined:
    """How much the loss on other data rises over the posterior of the task's own.

    Attributes:
        llc: data set → λ̂(A→B) = nβ(E_A[L_B(w)] − L_B(w*)).
        mcse: data set → its standard error: Monte Carlo, and the choice of examples where not all
            of B were used.
        baseline: data set → L_B(w*).
        draws: positions looked at, all chains together.
        estimate: λ̂ of A by the same chains; virial, null, R-hat and verdict are those of A, the
            loss that was sampled.
        seconds: wall time, the estimate's included.
    """

    llc: Mapping[str, float]
    mcse: Mapping[str, float]
    baseline: Mapping[str, float]
    draws: int
    estimate: Estimate
    seconds: float

    def __str__(self) -> str:
        lines = [str(self.estimate)]
        for name, value in self.llc.items():
            number, error = rounded(value, self.mcse[name])
            lines.append(f"on {name}: {number} ± {error} ({self.draws} draws)")
        return "\n".join(lines)


def data_refined(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    on: Mapping[str, Any],
    settings: Settings | None = None,
    looks: int = 100,
    examples: int = CHUNK,
    execution: Execution | None = None,
    **given: Any,
) -> DataRefined:
    """Estimate how the loss on data B rises under the posterior of the task's own data A.

    λ̂(A→B) = nβ(E_A[L_B(w)] − L_B(w*)), with w from p(w) ∝ exp(−nβL_A(w) − (γ/2)‖w − w*‖²): A
    says where the chains go, B is what is measured there; A→A is λ̂ itself. The data-refined LLC of
    Wang, Hoogland, van Wingerden, Furman & Murfet (2024, arXiv 2410.02984) samples B too: for
    that, estimate a `Task` with B as its data. Where w* is no minimum of L_B the number can be
    negative, or large: the chains follow A. With ``behavioural`` both losses are towards the
    model's own outputs at w*, so that neither is.

    Args:
        model: an ``nn.Module`` at w*, or a `Task`, which brings its own data and loss.
        data: A, as for `llc.estimate`.
        loss: as for `llc.estimate`; it has to give a value an example.
        on: name → B, data of the same kind as A.
        settings: as for `llc.estimate`; ``only`` refines by weights too.
        looks: positions a chain, about one effective draw apart.
        examples: of each B at most, drawn at random.
        execution: where and how to compute.
        **given: single settings, instead of ``settings``.

    Returns:
        A number with its error for each B, and the estimate on A.

    Raises:
        InputError: a potential or a loss without values by example, data that do not fit, all
            chains diverged, or whatever `llc.estimate` refuses.
    """
    for name, count in (("looks", looks), ("examples", examples)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise InputError(f"{name} is {count!r}, expected a whole number of at least 2")
    if not isinstance(on, Mapping) or not on:
        raise InputError(
            f"on is {'empty' if isinstance(on, Mapping) else f'a {type(on).__name__}'}, expected "
            'data by name, such as {"test": (inputs, targets)}'
        )
    started = time.perf_counter()
    task = Task.of(model, data, loss, None, None)
    wanted = replace(settings or Settings(), **given)
    with undisturbed():
        begun = (execution or Execution()).begun()
        surface = _surface(task, wanted, begun)
        others = {str(name): _of(task, str(name), what, wanted, begun) for name, what in on.items()}
        which = {
            name: choose_examples(other.size or 0, examples, wanted.seed)
            for name, other in others.items()
        }
        chosen, spent, _ = resolve(surface, wanted)
        estimate, start = measure(surface, chosen, lambda *_: None, spent=spent)
        if len(estimate.diverged) == chosen.chains:
            raise InputError(f"nothing to measure: {estimate.verdict.sentences[0]}")

        def losses(displacement: Tensor) -> Tensor:
            return torch.cat([others[name].losses(displacement, which[name]) for name in others])

        sizes = [len(index) for index in which.values()]
        there = losses(torch.zeros_like(surface.centre))
        rises = follow_losses(losses, start, estimate, sum(sizes), looks) - there
    n_beta = chosen.n_beta or 0.0
    pieces = zip(others.items(), rises.split(sizes, dim=2), strict=True)
    found = {name: _mean(piece, other.size or 0) for (name, other), piece in pieces}
    return DataRefined(
        {name: n_beta * value for name, (value, _) in found.items()},
        {name: n_beta * error for name, (_, error) in found.items()},
        {name: other.baseline for name, other in others.items()},
        rises.shape[0] * rises.shape[1],
        estimate,
        time.perf_counter() - started,
    )


def _surface(task: Task, settings: Settings, execution: Execution) -> LossSurface:
    surface = LossSurface(
        task, behavioural=settings.behavioural, execution=execution, only=settings.only
    )
    if surface.size is None or not surface.tabulated:
        raise InputError(
            "data refinement needs a loss with one value per example: give loss(outputs, targets) "
            "that does not average over the batch, or 'cross_entropy'"
        )
    return surface


def _of(
    task: Task, name: str, data: Any, settings: Settings, execution: Execution
) -> LossSurface:  # fmt: skip
    try:
        return _surface(replace(task, data=data), settings, execution)
    except InputError as error:
        raise InputError(f"data {name!r}: {error}") from error


def _mean(rises: Tensor, size: int) -> tuple[float, float]:
    """Mean rise over draws and examples, ``(chains, looks, examples)``, and its standard error."""
    examples = rises.shape[2]
    unseen = float(rises.mean((0, 1)).var()) / examples * (1 - examples / size)
    by_draw = rises.mean(2).numpy()
    return float(by_draw.mean()), math.hypot(diagnostics.mcse(by_draw), unseen**0.5)
