"""One run through many γ, strongest first: chains that have arrived at one go on at the next."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from llc.calibration import fill, first_gamma
from llc.errors import InputError
from llc.estimation import Estimate, Reason
from llc.estimator import measure
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.parts import as_strings
from llc.progress import Bar
from llc.sampling.chains import Report
from llc.sampling.course import DEFAULT_BUDGET
from llc.sampling.walk import Start
from llc.scale.curve import ScaleCurve
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task

__all__ = ["default_gammas", "scale_curve"]

ABOVE_FIRST = 10.0
PER_DECADE = 2
COUNT = 10
LEFT_THE_MODEL = 0.9
SMALL_RISE = 0.1


def scale_curve(
    task: Task,
    *,
    gammas: Sequence[float] | None = None,
    n_beta: float | None = None,
    chains: int = 4,
    precision: float = 0.05,
    budget: int | None = None,
    batch_size: int | None = None,
    only: str | Sequence[str] | Mapping[str, Tensor | None] | None = None,
    behavioural: bool = False,
    control_variate: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    compile: str = "auto",
    memory: float | None = None,
    autocast: bool = False,
    n_eff: Callable[[float], float] | None = None,
    progress: bool | Report | None = None,
) -> ScaleCurve:
    """Measure the effective dimension λ̂ at every scale 1/√γ in one annealed run.

    Chains start at w* under the largest γ. At each γ they burn in until the virial
    (nβ δ·∇L + γ‖δ‖²)/D is 1, then draw λ̂(γ) = nβ(E[L] − L(w*)) over
    p(w) ∝ exp(−nβL(w) − (γ/2)‖w − w*‖²) (Lau, Furman, Wang, Murfet & Wei 2023, arXiv 2308.12108)
    to the precision asked for; the next, smaller γ goes on from their last positions and momenta.
    The run ends early when chains diverge, leave the model, or the budget is spent.

    Args:
        task: model at w*, data, loss.
        gammas: γ to measure at, in any order; two a decade, over four and a half decades from
            1000·D/‖w*‖² downwards, unless given.
        n_beta: nβ; n/ln n with n the size of the data set unless given.
        chains: number of chains.
        precision: relative half-width of the 95 % interval to reach at each γ.
        budget: most gradient evaluations of the whole curve, all chains together; 100,000 a chain
            unless given.
        batch_size: examples a gradient; all up to 4096, else from 512 on, unless given.
        only: the part of the weights that is sampled, as `llc.estimate`.
        behavioural: measure towards the model's own outputs at w*, which makes w* a minimum.
        control_variate: correct each minibatch's gradient by what the same batch errs by at w*.
        seed: seeds every random stream; the process's own generators are left alone.
        device: where to compute; the model's own unless given.
        compile: how steps are run, as `llc.estimate`.
        memory: GiB that chains may take, 80 % of what is free unless given.
        autocast: evaluate the model in bfloat16 where torch's autocast does.
        n_eff: α → Σ h_i/(h_i + α) over the curvatures h_i at w*, to be kept beside λ̂ as
            N_eff(γ/nβ)/2, which is what a quadratic of these curvatures would give.
        progress: True for a bar, or a function of (phase, done, total).

    Returns:
        An estimate for each γ, with slopes, controls and verdict, and the plateaus among them.

    Raises:
        InputError: something given cannot be used; one sentence says what to give instead.
    """
    if not isinstance(task, Task):
        raise InputError(
            f"task is a {type(task).__name__}, expected an llc.Task: write "
            "llc.Task(model, data, loss)"
        )
    asked = None if gammas is None else _checked(gammas)
    settings = Settings(
        n_beta=n_beta, chains=chains, batch_size=batch_size, precision=precision, budget=budget,
        behavioural=behavioural, control_variate=control_variate, seed=seed,
        only=as_strings(only),
    )  # fmt: skip
    fill(settings, task.size)  # refuses what does not fit the data before the model is run
    execution = Execution(device, compile, memory, autocast)
    started = time.perf_counter()
    with (
        undisturbed(),
        Bar(task.label) if progress is True else nullcontext(progress or _silent) as report,
    ):
        surface = LossSurface(
            task, behavioural=behavioural, execution=execution, only=settings.only
        )
        settings = fill(settings, surface.size)
        asked = asked or default_gammas(surface)
        points, stopped = _anneal(surface, settings, asked, report)
    curve = ScaleCurve(
        task.label, tuple(asked), tuple(points), stopped, surface.local_rise,
        seconds=time.perf_counter() - started,
    )  # fmt: skip
    return curve if n_eff is None else curve.with_n_eff(n_eff)


def default_gammas(surface: LossSurface) -> list[float]:
    """Return two γ a decade from 1000·D/‖w*‖² downwards, to two significant digits.

    The first is ten times where `llc.calibrate` begins: there the prior moves weights by 3 % of
    their norm, at the last by five times their norm.
    """
    first = ABOVE_FIRST * first_gamma(surface)
    return [float(f"{first * 10 ** (-k / PER_DECADE):.2g}") for k in range(COUNT)]


def _anneal(
    surface: LossSurface, settings: Settings, gammas: Sequence[float], report: Report
) -> tuple[list[Estimate], str]:
    """Go down through γ; return what was measured, and in words why not all of it."""
    budget = settings.budget or DEFAULT_BUDGET * settings.chains
    left = budget
    points: list[Estimate] = []
    start: Start | None = None
    for gamma in gammas:
        if left <= 0:
            return points, f"the budget of {budget:,} gradients ended before γ = {gamma:.3g}"
        reasons = {**settings.reasons, "gamma": "one of a scale curve"}
        stage = replace(settings, gamma=gamma, budget=left, reasons=reasons)
        found, start = measure(surface, stage, _labelled(report, gamma), start=start)
        points.append(found)
        left -= found.gradient_evaluations
        stopped = _why_stop(found, budget, surface.task_chance or 0.0)
        if stopped:
            return points, stopped
    return points, ""


def _why_stop(found: Estimate, budget: int, task_chance: float) -> str:
    """Say why no smaller γ should be tried, or nothing."""
    gamma = f"γ = {found.settings.gamma:.3g}"
    if found.diverged:
        return f"chains left for infinity at {gamma}"
    above = Reason.ABOVE_CHANCE in found.verdict.reasons
    if found.chance is not None:
        room, rise = found.chance - found.baseline, found.sampled_loss - found.baseline
        # A model that has learnt next to nothing has next to nothing for chains to leave.
        risen = rise > SMALL_RISE * max(found.chance, task_chance)
        above = above or (room > 0 and rise > LEFT_THE_MODEL * room and risen)
    if above:
        return (
            f"at {gamma} the sampled loss {found.sampled_loss:.3g} has come up to that of a blind "
            f"guess ({found.chance:.3g}): the chains have left the model"
        )
    if {Reason.PRECISION_NOT_REACHED, Reason.CUT_SHORT} & set(found.verdict.reasons):
        return f"the budget of {budget:,} gradients ended at {gamma}"
    return ""


def _checked(gammas: Sequence[float]) -> list[float]:
    """Return γ from large to small, or refuse what is no list of different positive numbers."""
    try:
        values = [float(gamma) for gamma in gammas]
    except (TypeError, ValueError) as error:
        raise InputError(f"gammas is {gammas!r}, expected a list of positive numbers") from error
    bad = [value for value in values if not 0 < value < math.inf]
    if bad:
        raise InputError(f"gammas holds {bad[0]!r}, expected positive numbers")
    if len(values) < 2:
        raise InputError(
            f"gammas holds {len(values)} values, expected at least two: for one γ use llc.estimate"
        )
    if len(set(values)) < len(values):
        raise InputError(f"gammas is {values}, expected every value once")
    return sorted(values, reverse=True)


def _labelled(report: Report, gamma: float) -> Report:
    def labelled(phase: str, done: int, total: int | None) -> None:
        report(f"γ = {gamma:.3g}, {phase}", done, total)

    return labelled


def _silent(*_: Any) -> None:
    pass
