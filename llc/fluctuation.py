"""The singular fluctuation: how much single examples' losses vary over the posterior."""

import math
import time
from collections.abc import Callable
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
from llc.isolation import undisturbed
from llc.params import stream_seed
from llc.sampling.chains import advance
from llc.sampling.walk import Start
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
        surface = LossSurface(task, behavioural=wanted.behavioural, execution=begun)
        if surface.size is None or not surface.tabulated:
            raise InputError(
                "the singular fluctuation needs a loss with one value per example: give "
                "loss(outputs, targets) that does not average over the batch, or 'cross_entropy'"
            )
        chosen, spent, _ = resolve(surface, wanted)
        estimate, start = measure(surface, chosen, _silent, spent=spent)
        if len(estimate.diverged) == chosen.chains:
            raise InputError(f"nothing to measure: {estimate.verdict.sentences[0]}")
        which = _choose(surface.size, examples, chosen.seed)
        losses = _follow(surface, start, estimate, which, looks)
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


def _choose(size: int, examples: int, seed: int) -> Tensor:
    if size <= examples:
        return torch.arange(size)
    generator = torch.Generator().manual_seed(stream_seed(seed, "examples", 0))
    return torch.randperm(size, generator=generator)[:examples].sort().values


def _follow(
    surface: LossSurface, start: Start, estimate: Estimate, which: Tensor, looks: int
) -> Tensor:
    """Go on from where the chains are; losses of examples, ``(chains, looks, examples)``."""
    chains = len(start.state.displacement)
    kept = [c for c in range(chains) if c not in estimate.diverged]
    apart = max(1, math.ceil(estimate.trace[kept].size / estimate.ess))
    kernel = start.stepper.kernel(start.tuning, chains)
    state = start.state
    found = torch.empty((len(kept), looks, len(which)), dtype=torch.float64)
    for look in range(looks):
        state, _ = advance(kernel, state, start.streams, apart)
        for row, chain in enumerate(kept):
            found[row, look] = surface.losses(state.displacement[chain], which)
    stayed = found.isfinite().all(2).all(1)
    if not stayed.any():
        raise InputError("all chains left for infinity while examples were followed: raise gamma")
    return found[stayed]


def _functional_variance(losses: Tensor, size: int) -> tuple[float, float]:
    """Σᵢ Var_w[ℓᵢ] over all n examples, and its standard error."""
    looks, examples = losses.shape[0] * losses.shape[1], losses.shape[2]
    squares = (losses - losses.mean((0, 1))) ** 2 * (looks / (looks - 1))
    factor = size / examples
    by_draw = squares.sum(2).numpy() * factor
    by_example = squares.mean((0, 1))
    unseen = factor * size * (1 - examples / size) * float(by_example.var())
    return float(by_draw.mean()), math.hypot(diagnostics.mcse(by_draw), unseen**0.5)
