"""The singular fluctuation: how much single examples' losses vary over the posterior."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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

__all__ = ["Fluctuation", "singular_fluctuation"]

CHUNK = 4096


@dataclass(frozen=True)
class Fluctuation:
    """ν̂ with its error, and the estimate whose chains it was measured on.

    Attributes:
        nu: ν̂ = (β/2)·Σᵢ Var_w[ℓᵢ(w)], β = nβ/n; d/2, like λ, for a regular model that holds the
            truth.
        mcse: its standard error: Monte Carlo, and the choice of examples where not all were used.
        functional_variance: Σᵢ Var_w[ℓᵢ(w)], the correction of WAIC.
        draws: positions looked at, all chains together.
        examples: how many examples' losses were followed.
        estimate: the LLC by the same chains, with verdict.
        seconds: wall time, the estimate's included.
    """

    nu: float
    mcse: float
    functional_variance: float
    draws: int
    examples: int
    estimate: Estimate
    seconds: float

    def __str__(self) -> str:
        number, error = rounded(self.nu, self.mcse)
        return (
            f"singular fluctuation {number} ± {error} ({self.draws} draws, {self.examples} "
            f"examples); {self.estimate}"
        )


def singular_fluctuation(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    settings: Settings | None = None,
    looks: int = 100,
    examples: int = CHUNK,
    execution: Execution | None = None,
    **given: Any,
) -> Fluctuation:
    """Estimate the singular fluctuation ν beside the LLC (Watanabe 2010, JMLR 11:3571).

    The chains of an estimate go on, and at positions about one effective draw apart the losses of
    single examples are evaluated. ν̂ = (β/2)·Σᵢ Var_w[ℓᵢ(w)] with ℓᵢ = −log p(yᵢ|xᵢ, w): with
    another loss it is the same functional of that loss. At β = 1 the generalisation error is λ/n
    for the Bayes average and (λ + ν)/n for a single draw, in expectation and above that of the
    truth; WAIC adds 2ν/n to the training error.

    Args:
        model: an ``nn.Module`` at w*, or a `Task`, which brings its own data and loss.
        data: as for `llc.estimate`.
        loss: as for `llc.estimate`; it has to give a value an example.
        settings: as for `llc.estimate`; nβ = n is Bayes at temperature one.
        looks: positions a chain.
        examples: followed at most, drawn at random; the rest is extrapolated, with its error.
        execution: where and how to compute.
        **given: single settings, instead of ``settings``.

    Raises:
        InputError: a potential or a loss without values by example, all chains diverged, or
            whatever `llc.estimate` refuses.
    """
    for name, count in (("looks", looks), ("examples", examples)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise InputError(f"{name} is {count!r}, expected a whole number of at least 2")
    started = time.perf_counter()
    task = Task.of(model, data, loss, None, None)
    wanted = replace(settings or Settings(), **given)
    with undisturbed():
        begun = (execution or Execution()).begun()
        surface = LossSurface(
            task, behavioural=wanted.behavioural, execution=begun, only=wanted.only
        )
        if surface.size is None or not surface.tabulated:
            raise InputError(
                "the singular fluctuation needs a loss with one value per example: give "
                "loss(outputs, targets) that does not average over the batch, or 'cross_entropy'"
            )
        chosen, spent, _ = resolve(surface, wanted)
        estimate, start = measure(surface, chosen, _silent, spent=spent)
        if len(estimate.diverged) == chosen.chains:
            raise InputError(f"nothing to measure: {estimate.verdict.sentences[0]}")
        which = choose_examples(surface.size, examples, chosen.seed)
        losses = follow_losses(
            lambda displacement: surface.losses(displacement, which),
            start, estimate, len(which), looks,
        )  # fmt: skip
    n_beta, size = chosen.n_beta or 0.0, surface.size
    variance, error = _functional_variance(losses, size)
    half_beta = n_beta / size / 2
    return Fluctuation(
        half_beta * variance,
        half_beta * error,
        variance,
        losses.shape[0] * losses.shape[1],
        losses.shape[2],
        estimate,
        time.perf_counter() - started,
    )


def _silent(*_: object) -> None:
    pass


def _functional_variance(losses: Tensor, size: int) -> tuple[float, float]:
    """Σᵢ Var_w[ℓᵢ] over all n examples, and its standard error."""
    looks, examples = losses.shape[0] * losses.shape[1], losses.shape[2]
    squares = (losses - losses.mean((0, 1))) ** 2 * (looks / (looks - 1))
    factor = size / examples
    by_draw = squares.sum(2).numpy() * factor
    by_example = squares.mean((0, 1))
    unseen = factor * size * (1 - examples / size) * float(by_example.var())
    return float(by_draw.mean()), math.hypot(diagnostics.mcse(by_draw), unseen**0.5)
