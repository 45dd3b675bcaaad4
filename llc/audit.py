"""An audit of the step: the same posterior once more at half the step, with twice the steps."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor, nn

from llc.errors import InputError
from llc.estimation import Estimate
from llc.estimation.estimate import rounded
from llc.estimation.verdict import Reason, Status
from llc.estimator import measure
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.params import stream_seed
from llc.progress import Bar
from llc.sampling.chains import Report
from llc.sampling.schemes import scheme_for
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task

__all__ = ["StepAudit", "audit_step", "check_sampler"]

RESOLVED = 3.0
LARGE = 0.2
AIMED_BIAS = 0.02
SAME_LOSS = 1e-3


@dataclass(frozen=True)
class StepAudit:
    """What the step does to an estimate, by comparison with half of it.

    Attributes:
        estimate: the audited estimate: where the bias is resolved, ``discretisation`` is what was
            measured; a bias outside its interval is in the verdict.
        half: the estimate at half the step.
        order: p, at which the bias of the sampler vanishes: bias(h) ~ h^p.
        difference: λ̂(h) − λ̂(h/2), minibatch heat of known size taken out of both.
        difference_se: its Monte-Carlo standard error.
    """

    estimate: Estimate
    half: Estimate
    order: int
    difference: float
    difference_se: float

    @property
    def bias(self) -> float:
        """What the step h adds to λ̂, to leading order: difference/(1 − 2^−p)."""
        return self.difference / (1 - 0.5**self.order)

    @property
    def bias_se(self) -> float:
        """Standard error of ``bias``."""
        return self.difference_se / (1 - 0.5**self.order)

    @property
    def extrapolated(self) -> float:
        """λ̂ at step zero, to leading order (Richardson): λ̂(h) less ``bias``, heat taken out.

        Where the bias falls faster than its order says, this takes off too much: up to a third of
        ``difference`` at order 2. There ``half`` is nearer.
        """
        return _cold(self.estimate) - self.bias

    @property
    def why_unsound(self) -> str:
        """Why the half-step run cannot judge the other, or nothing."""
        half = self.half
        if half.diverged:
            return f"it lost {len(half.diverged)} of {half.settings.chains} chains"
        if half.virial < 0.9 or half.rhat > 1.2 or not half.ess >= 10:
            return f"virial {half.virial:.2f}, R-hat {half.rhat:.2f}, ESS {half.ess:.0f}"
        return ""

    @property
    def resolved(self) -> bool:
        """Whether the bias is three standard errors or more from zero, in sound runs."""
        return not self.why_unsound and abs(self.bias) > RESOLVED * self.bias_se

    def __str__(self) -> str:
        if math.isnan(self.difference):
            return f"half the step: no number ({self.why_unsound})"
        difference, bias = (
            "{} ± {}".format(*rounded(value, error))
            for value, error in (
                (self.difference, self.difference_se),
                (self.bias, self.bias_se),
            )
        )
        doubt = f"; the half-step run is in doubt: {self.why_unsound}" if self.why_unsound else ""
        return (
            f"LLC(h) − LLC(h/2) = {difference}: of order {self.order}, the step adds {bias}{doubt}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, without the two estimates, as JSON-able values; nan becomes None."""
        own = [f.name for f in fields(self) if f.name not in ("estimate", "half")]
        names = [*own, "bias", "bias_se", "extrapolated", "resolved"]
        values = {name: getattr(self, name) for name in names}
        values |= {"half_llc": self.half.llc, "half_mcse": self.half.mcse}
        values |= {"half_step_size": self.half.settings.step_size}
        return {
            name: None if isinstance(v, float) and not math.isfinite(v) else v
            for name, v in values.items()
        }


def audit_step(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    estimate: Estimate,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    potential: Callable[[nn.Module], Tensor] | None = None,
    execution: Execution | None = None,
    progress: bool | Report | None = None,
) -> StepAudit:
    """Estimate once more at half the step, and say what the step adds to the LLC.

    A sampler whose bias is of order p in its step has bias(h) ≈ (λ̂(h) − λ̂(h/2))/(1 − 2^−p)
    (Richardson; Talay & Tubaro 1990): p = 2 for BAOAB, BADODAB (h) and Leimkuhler–Matthews (ε)
    (Leimkuhler, Matthews & Stoltz 2016), whose bias is 0 on quadratics, and 1 for Euler–Maruyama
    (ε). The second run has the same nβ, γ, batch size, twice the steps and noise of its own, and
    costs twice the gradients. What it can see is set by the error bars of both: at a Monte-Carlo
    error of 1 % in each, a bias of 6 % at order 2 and of 9 % at order 1. Where the step is so large
    that its bias falls faster than its order says, the bias given is too large, by a third at most
    at order 2.

    Args:
        model: as for `llc.estimate`: the same w* as the estimate's.
        data: as for `llc.estimate`.
        loss: as for `llc.estimate`.
        estimate: what is audited; its settings are those of the second run.
        batch_loss: as for `llc.estimate`.
        potential: as for `llc.estimate`.
        execution: where and how to compute.
        progress: True for a bar, or a function of (phase, done, total).

    Returns:
        Difference and bias with standard errors, both estimates, the first with its budget of
        errors and its verdict completed.

    Raises:
        InputError: the sampler has a Metropolis test, no chain of the estimate is left, its step is
            zero, or it is one of another model.
    """
    settings = estimate.settings
    check_sampler(settings.sampler)
    _check_estimate(estimate)
    task = Task.of(model, data, loss, batch_loss, potential)
    with (
        undisturbed(),
        Bar(f"{task.label}, half the step")
        if progress is True
        else nullcontext(progress or _silent) as report,
    ):
        begun = (execution or Execution()).begun()
        surface = LossSurface(
            task, behavioural=settings.behavioural, execution=begun, only=settings.only
        )
        _check_same(estimate, surface)
        half, _ = measure(surface, _halved(settings), report)
    # A thermostat's heat, of unknown size, is of first order in the step, and larger than its bias.
    first = scheme_for(settings.sampler).euler or math.isnan(estimate.heat)
    audit = StepAudit(
        estimate,
        half,
        1 if first else 2,
        _cold(estimate) - _cold(half),
        math.hypot(*(e.mcse / (1 + _heat(e)) for e in (estimate, half))),
    )
    return replace(audit, estimate=_judged(audit))


def check_sampler(sampler: str) -> None:
    """Refuse a sampler whose step biases nothing."""
    if scheme_for(sampler).exact:
        raise InputError(
            f"sampler is {sampler!r}, whose Metropolis test leaves its step no bias to audit: drop "
            "the audit, or audit 'kinetic', 'sgld-lm' or 'sgld'"
        )


def _check_estimate(estimate: Estimate) -> None:
    if math.isnan(estimate.llc):
        raise InputError(f"no chain is left to audit: {estimate.verdict.sentences[0]}")
    if not estimate.settings.step_size:
        raise InputError("the estimate's step size is 0, expected one above 0, to be halved")


def _check_same(estimate: Estimate, surface: LossSurface) -> None:
    size, baseline = surface.layout.total, surface.baseline
    apart = abs(baseline - estimate.baseline) > SAME_LOSS * (
        abs(baseline) + 1 / (surface.size or 1)
    )
    if size != estimate.dimension or apart:
        raise InputError(
            f"the estimate is one of {estimate.dimension} parameters at a loss of "
            f"{estimate.baseline:.4g}, the model has {size} at {baseline:.4g}: give the model that "
            "was estimated"
        )


def _halved(settings: Settings) -> Settings:
    return replace(
        settings,
        step_size=(settings.step_size or 0.0) / 2,
        draws=2 * (settings.draws or 0),
        burn_in=2 * (settings.burn_in or 0),
        budget=None,
        seed=stream_seed(settings.seed, "audit", 0) % 2**31,
    )


def _heat(e: Estimate) -> float:
    return e.heat if math.isfinite(e.heat) else 0.0


def _cold(e: Estimate) -> float:
    """λ̂ without minibatch heat, as far as that is known."""
    return e.llc / (1 + _heat(e))


def _judged(audit: StepAudit) -> Estimate:
    """The audited estimate with the bias in its budget and, if it counts, its verdict."""
    e, bias = audit.estimate, audit.bias
    reading = f"at half the step (its LLC {audit.half.llc:.4g}) {audit}"
    if not audit.resolved:
        return replace(e, verdict=e.verdict.with_reading(reading))
    low, high = e.interval(0.9)
    verdict = e.verdict.with_reading(reading)
    if not low <= e.llc - bias <= high:
        step = e.settings.step_size or 0.0
        less = (AIMED_BIAS * abs(audit.extrapolated / bias)) ** (1 / audit.order)
        grade: Status = "fail" if abs(bias) > LARGE * abs(audit.extrapolated) else "warn"
        sentence = Reason.STEP_BIASES.value.format(
            llc=e.llc,
            half=audit.half.llc,
            bias=bias,
            bias_se=audit.bias_se,
            less=step * min(0.5, less),
        )
        verdict = verdict.with_reason(Reason.STEP_BIASES, grade, sentence)
    return replace(e, discretisation=bias, verdict=verdict)


def _silent(*_: object) -> None:
    pass
