"""Settings frozen for many checkpoints: step size, burn-in and draws by one pilot.

Left open they are settled while sampling, checkpoint by checkpoint; frozen they are shared.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from llc.calibration.choices import Resolved, choose, fill, resolve_task
from llc.calibration.pilots import Pilot, pilot_at
from llc.diagnostics import mcse
from llc.errors import InputError
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.sampling.chains import Report
from llc.sampling.course import DEFAULT_BUDGET
from llc.sampling.run import Samples
from llc.sampling.schemes import MOST_FRICTION, scheme_for
from llc.sampling.warmup import VIRIAL_TOLERANCE
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task

__all__ = ["calibrate", "freeze_task"]

FREEZE_BUDGET = 40_000
# A pilot's error bar has an error of its own; a second checkpoint needs a little more or less.
MARGIN = 1.5
LEAST_DRAWS = 100
MOST_HEAT = 0.05
REHEARSALS = 4


def calibrate(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    potential: Callable[[nn.Module], Tensor] | None = None,
    settings: Settings | None = None,
    freeze: bool = False,
    **given: Any,
) -> Settings:
    """Choose nβ, γ and batch size for a model, each with its reason; or everything.

    With ``freeze`` a pilot at the chosen γ also settles step size, burn-in and draws. Let it end
    with m draws a chain, Monte-Carlo standard error s and size a, the larger of ``|λ̂|`` and half
    the standard deviation of nβ(L − L*): the precision p (relative half-width of the 95 %
    interval) then takes 1.5·m·(2s/(p·a))² draws, or more where the virial would not be known to
    ±5 %.
    Friction is no setting: each run chooses its own.

    Args:
        model: an ``nn.Module`` at w*, or a `Task`, which brings its own data and loss.
        data: as in `llc.estimate`, like the next three.
        loss: of (outputs, targets).
        batch_loss: instead, of (model, batch).
        potential: instead, of the model alone.
        settings: choices already made; None in them means to be chosen here.
        freeze: settle ``step_size``, ``burn_in`` and ``draws`` too, so that every checkpoint of a
            trajectory is sampled alike. Where a frozen step is too large for a checkpoint, that
            checkpoint's verdict says so.
        **given: single settings by name; they win over those in ``settings``.

    Returns:
        Settings to reuse, frozen, across the checkpoints of a trajectory; ``str`` of them tells
        each choice with its reason, `Settings.save` keeps them.

    Raises:
        InputError: a potential without ``n_beta``, a batch larger than the data, a pilot whose
            chains all left for infinity, or whatever else makes the task unusable.
    """
    task = Task.of(model, data, loss, batch_loss, potential)
    chosen = replace(Settings() if settings is None else settings, **given)
    return (freeze_task if freeze else resolve_task)(task, chosen).settings


def freeze_task(
    task: Task,
    settings: Settings,
    execution: Execution | None = None,
    report: Report | None = None,
) -> Resolved:
    """Fill in everything for one task; as `calibrate` with ``freeze``, with what it took.

    Raises:
        InputError: as `calibrate`.
    """
    fill(settings, task.size)  # refuses what does not fit the data before the model is run
    with undisturbed():
        surface = LossSurface(
            task, behavioural=settings.behavioural, execution=execution, only=settings.only
        )
        return _freeze(surface, settings, report or (lambda *_: None))


def _freeze(surface: LossSurface, settings: Settings, report: Report) -> Resolved:
    """Settle step, burn-in and draws by the run that γ was chosen at, or by one of their own."""
    chosen, found = choose(surface, settings, report)
    assert chosen.gamma is not None
    wanted = [n for n in ("step_size", "burn_in", "draws") if getattr(chosen, n) is None]
    if not wanted:
        return Resolved(chosen, found.evaluations, found.sound)
    pilot, spent = found.pilot, found.evaluations
    if pilot is None:
        pilot = pilot_at(surface, chosen, chosen.gamma, FREEZE_BUDGET, report)
        spent += pilot.evaluations
    if settings.sampler == "auto" and settings.step_size is None and _damped(pilot):
        why = "auto; minibatch noise asks for more friction than a frozen step is given"
        reasons = {**chosen.reasons, "sampler": why}
        chosen = replace(chosen, sampler="sgld-lm", reasons=reasons)
        pilot = pilot_at(surface, chosen, chosen.gamma or 0.0, FREEZE_BUDGET, report)
        spent += pilot.evaluations
    _demand_a_number(pilot, chosen, settings)
    made = pilot.samples
    minibatch = made.batch_size is not None
    frozen = replace(
        chosen,
        step_size=made.step_size,
        burn_in=made.burn_in if chosen.burn_in is None else chosen.burn_in,
        batch_size=made.batch_size if minibatch else chosen.batch_size,
    )
    why_step = "given" if settings.step_size is not None else _why_step(chosen.sampler, made)
    if minibatch and settings.step_size is None and scheme_for(chosen.sampler).friction:
        frozen, pilot, more, cooled = _rehearse(surface, frozen, settings, report)
        spent += more
        why_step += cooled
        _demand_a_number(pilot, chosen, settings)
    why_draws, draws = _draws_for(pilot, chosen, frozen.burn_in or 0, surface.layout.total)
    reasons = dict(chosen.reasons)
    doubt = "" if not pilot.why_not else f"; in doubt: {pilot.why_not}"
    why = {
        "step_size": why_step,
        "burn_in": f"the pilot's, by its virial{doubt}",
        "draws": f"{why_draws}{doubt}",
    }
    reasons |= {name: why[name] for name in wanted}
    if chosen.batch_size is None and minibatch:
        reasons["batch_size"] = "from 512 on, grown as minibatch heat in the pilot demanded"
    frozen = replace(frozen, draws=draws if chosen.draws is None else chosen.draws, reasons=reasons)
    return Resolved(frozen, spent, found.sound and not pilot.why_not)


def _damped(pilot: Pilot) -> bool:
    """Whether a run held minibatch heat down by more friction than one with a given step takes."""
    friction = pilot.samples.friction
    return friction is not None and friction > 1.1 * MOST_FRICTION * pilot.gamma**0.5


def _demand_a_number(pilot: Pilot, chosen: Settings, settings: Settings) -> None:
    gone = int(pilot.samples.diverged.sum())
    if not gone:
        return
    raise InputError(
        f"{gone} of {chosen.chains} chains of the pilot at gamma {chosen.gamma:.3g} left for "
        "infinity, expected chains that stay: give a larger gamma"
        + ("" if settings.step_size is None else f", or a step_size below {settings.step_size}")
    )


def _why_step(sampler: str, made: Samples) -> str:
    if scheme_for(sampler).exact:
        return f"the pilot's, accepted with probability {made.acceptance:.2f}"
    if not made.stiffness > 0:
        return "the pilot's"
    power = "h²" if scheme_for(sampler).power == 2 else "ε"
    return f"{power} times the pilot's largest curvature is {made.stiffness:.2g}"


def _rehearse(
    surface: LossSurface, frozen: Settings, asked: Settings, report: Report
) -> tuple[Settings, Pilot, int, str]:
    """Run the frozen step on minibatches; lower it while their noise heats too much.

    A run that follows the curvature can answer heat by friction; one whose step is given cannot.
    Heat is proportional to the step, at first order and where Γh is small; relaxation takes
    steps in inverse proportion.
    """
    spent, note = 0, ""
    for number in range(REHEARSALS + 1):
        fixed = {"burn_in": frozen.burn_in}
        pilot = pilot_at(surface, frozen, frozen.gamma or 0.0, FREEZE_BUDGET, report, **fixed)
        spent += pilot.evaluations
        heat = pilot.samples.heat
        lost = pilot.samples.diverged.any()
        if number == REHEARSALS or not (lost or heat > MOST_HEAT):
            break
        less = 0.25 if lost else max(0.7 * MOST_HEAT / heat, 0.25)
        step = less * (frozen.step_size or 0.0)
        burn_in = frozen.burn_in or 0
        if asked.burn_in is None:
            burn_in = math.ceil(burn_in / less)
        frozen = replace(frozen, step_size=step, burn_in=burn_in)
        note = f", lowered to {step:.2g} for less minibatch heat"
    return frozen, pilot, spent, note


def _draws_for(pilot: Pilot, settings: Settings, burn_in: int, dimension: int) -> tuple[str, int]:
    """Draws a chain for the precision asked for, by the pilot's error bar: error² ~ 1/draws."""
    m, draws = pilot.moments, pilot.samples.draws
    # As production judges it: a share of a number near zero would take for ever.
    size = max(abs(m.llc), float(draws.rise.std()) / 2)
    if not (size > 0 and m.ess > 0):
        return "the least there are: the pilot's chains did not move", LEAST_DRAWS
    needed = draws.length * (2 * m.mcse / (settings.precision * size)) ** 2
    needed = max(needed, LEAST_DRAWS / m.ess * draws.length)
    # A verdict that asks for a virial of 1 ± 5 % has to know it.
    off = mcse(draws.virial(dimension))
    needed = max(needed, draws.length * (2 * off / VIRIAL_TOLERANCE) ** 2)
    needed = _rounded_up(max(MARGIN * needed, LEAST_DRAWS))
    why = f"for ±{settings.precision:.2g} of the 95 % interval, by the pilot's ±{2 * m.mcse:.2g}"
    chains = settings.chains
    spare = settings.budget or DEFAULT_BUDGET * chains
    most = max(_afforded(spare, settings, pilot.samples.step_size) - burn_in, 1)
    if needed <= most:
        return why, needed
    return f"all that the budget allows; ±{settings.precision:.2g} would take {needed}", most


def _afforded(budget: int, settings: Settings, step_size: float) -> int:
    """Steps a chain that a budget pays for."""
    leaps = scheme_for(settings.sampler).leaps(settings.gamma or 0.0, step_size)
    return budget // (settings.chains * leaps * (2 if settings.control_variate else 1))


def _rounded_up(number: float) -> int:
    """Round up to two significant digits."""
    unit = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return math.ceil(number / unit) * unit
