"""What is open in settings, filled in: nβ and sampler from the data, γ by pilots.

nβ is n/ln n, with n the size of the data set (Watanabe 2013, WBIC). γ starts at 100·D/‖w*‖²,
where the prior moves weights by a tenth of their norm, and is lowered tenfold while λ̂ still
depends on it, the chains stay local, and their virial says that they arrived, as long as that
can be seen within a pilot's budget. D/‖w*‖² alone is not safe: on a network that is still
fitting, chains leave the basin with a virial of 1.
"""

import math
from dataclasses import replace
from typing import NamedTuple

from llc.calibration.pilots import (
    PATIENCE,
    PILOT_BUDGET,
    Pilot,
    cost_at_a_tenth,
    on_plateau,
    pilot_at,
)
from llc.errors import InputError
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.progress import part_of
from llc.sampling.chains import Report
from llc.sampling.course import batch_size_for
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task

__all__ = ["Choice", "Resolved", "choose", "fill", "first_gamma", "resolve", "resolve_task"]

START = 100.0
LEAST_WEIGHT = 0.1
DECADES = 4
# A further γ is tried in the first third of the time; pilots end when half of it is over.
SHARE_TO_BEGIN = 0.3
SHARE_OF_PILOTS = 0.5


class Resolved(NamedTuple):
    """Settings filled in, and what it took.

    Attributes:
        settings: nothing that decides the posterior is None.
        evaluations: gradient evaluations spent on choosing.
        sound: False where not even the first γ tried gave a usable run, or where the pilot that
            froze the rest had not settled.
    """

    settings: Settings
    evaluations: int
    sound: bool


class Choice(NamedTuple):
    """γ, why, the gradient evaluations spent, whether any run was usable, and the run at γ."""

    gamma: float
    why: str
    evaluations: int
    sound: bool
    pilot: Pilot | None


def resolve_task(
    task: Task,
    settings: Settings,
    execution: Execution | None = None,
    report: Report | None = None,
) -> Resolved:
    """Fill in what is open for one task; as `calibrate`, with what it took."""
    fill(settings, task.size)  # refuses what does not fit the data before the model is run
    with undisturbed():
        surface = LossSurface(
            task, behavioural=settings.behavioural, execution=execution, only=settings.only
        )
        return resolve(surface, settings, report)


def fill(settings: Settings, size: int | None) -> Settings:
    """Fill in nβ and sampler from the number of examples alone; γ stays as it is.

    Raises:
        InputError: a potential without ``n_beta``, or a batch larger than the data, or not of all
            of them for a sampler with a Metropolis test.
    """
    reasons = dict(settings.reasons)
    if settings.batch_size is not None and size is not None and settings.batch_size > size:
        raise InputError(
            f"batch_size is {settings.batch_size}, but the data hold {size} examples: give at "
            f"most {size}, or leave it out"
        )
    n_beta = settings.n_beta
    if n_beta is None:
        n_beta = _default_n_beta(size)
        reasons["n_beta"] = f"n/ln n, n = {size}"
    batch_size = batch_size_for(settings, size)
    if settings.batch_size is None:
        small = batch_size is None
        reasons["batch_size"] = "all data" if small else "from 512 on, as heat demands"
    sampler = settings.sampler
    if sampler == "auto":
        sampler, reasons["sampler"] = "kinetic", "auto"
    return replace(settings, n_beta=n_beta, sampler=sampler, reasons=reasons)


def resolve(surface: LossSurface, settings: Settings, report: Report | None = None) -> Resolved:
    """Fill in nβ, sampler and γ, as `calibrate`."""
    chosen, found = choose(surface, settings, report or (lambda *_: None))
    return Resolved(chosen, found.evaluations, found.sound)


def choose(
    surface: LossSurface,
    settings: Settings,
    report: Report,
    *,
    digits: int | None = None,
    above: float = 0.0,
) -> tuple[Settings, Choice]:
    """Fill in nβ, sampler and γ; return the settings, and how γ was found.

    Args:
        surface: the loss around w*.
        settings: choices already made.
        report: progress callback.
        digits: of each γ that is tried; None for all.
        above: γ is not lowered to this or beyond.
    """
    chosen = fill(settings, surface.size)
    if chosen.gamma is not None:
        return chosen, Choice(chosen.gamma, "", 0, True, None)
    whole = surface.execution
    surface.execution = whole.first(SHARE_OF_PILOTS)
    try:
        found = _choose_gamma(surface, chosen, report, digits, above)
    finally:
        surface.execution = whole
    reasons = {**chosen.reasons, "gamma": found.why}
    return replace(chosen, gamma=found.gamma, reasons=reasons), found


def _default_n_beta(size: int | None) -> float:
    if size is None:
        raise InputError(
            "a potential has no data to take n from: give n_beta, the number of examples times "
            "the inverse temperature"
        )
    if size < 3:
        raise InputError(f"the data hold {size} examples, too few for n_beta = n/ln n: give n_beta")
    return size / math.log(size)


def first_gamma(surface: LossSurface) -> float:
    """Return 100·D/‖w*‖², the γ at which the prior moves weights by a tenth of their norm."""
    dimension = surface.layout.total
    # Weights near zero give no scale of their own; a tenth is the least assumed.
    weight = max(surface.centre.double().square().sum().item(), LEAST_WEIGHT**2 * dimension)
    return START * dimension / weight


def _choose_gamma(
    surface: LossSurface, settings: Settings, report: Report, digits: int | None, above: float
) -> Choice:
    """Lower γ tenfold from its start until λ̂ no longer depends on it, or it must not be."""
    gamma = _rounded(first_gamma(surface), digits)
    kept: Pilot | None = None
    spent = 0
    stopped = f"lowered {DECADES} times without a plateau"
    for _ in range(DECADES + 1):
        if gamma <= above:
            stopped = f"{above:.3g} was not to be reached"
            break
        left = PILOT_BUDGET if settings.budget is None else settings.budget - spent
        told = part_of(f"trying gamma {gamma:.4g}", report)
        pilot = pilot_at(surface, settings, gamma, min(left, PILOT_BUDGET), told, PATIENCE)
        spent += pilot.evaluations
        if pilot.why_not:
            stopped = f"at {gamma:.3g} {pilot.why_not}"
            break
        before, kept = kept, pilot
        if on_plateau(before, kept):
            stopped = "the LLC no longer depends on it"
            break
        if cost_at_a_tenth(pilot) > PILOT_BUDGET:
            stopped = f"at {gamma / 10:.3g} it would take more than {PILOT_BUDGET} gradients to see"
            break
        if surface.execution.late(SHARE_TO_BEGIN / SHARE_OF_PILOTS):
            stopped = "there was no time to go further"
            break
        if settings.budget is not None and spent > SHARE_OF_PILOTS * settings.budget:
            stopped = "the budget allowed no further one"
            break
        gamma = _rounded(gamma / 10, digits)
    if kept is None:
        return Choice(gamma, f"100·D/‖w*‖², though {stopped}", spent, False, None)
    why = f"from 100·D/‖w*‖² downwards: {stopped}"
    return Choice(kept.gamma, why, spent, True, kept)


def _rounded(gamma: float, digits: int | None) -> float:
    return gamma if digits is None else float(f"{gamma:.{digits}g}")
