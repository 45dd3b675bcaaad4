"""The one call: a model at its checkpoint in, an `Estimate` out."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from llc.calibration import choose, fill, resolve
from llc.errors import InputError
from llc.estimation.assembly import assemble, gradient_shift
from llc.estimation.estimate import Estimate
from llc.estimation.rounding import rounding
from llc.estimation.verdict import Reason
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.parts import as_strings
from llc.posterior import Posterior
from llc.progress import Bar
from llc.sampling.chains import Report
from llc.sampling.course import Course
from llc.sampling.run import Samples, sample, sample_stack, samples_of
from llc.sampling.walk import Start
from llc.settings import Settings
from llc.stack import StackedSurface, why_not_stacked
from llc.surface import LossSurface
from llc.task import Task

__all__ = ["estimate", "estimate_stack", "estimate_task", "measure"]

NULL_DRAWS = 32
# In millions of directions one draw is nearly as good as any other.
NULL_DRAWS_OF_LARGE = 8


def estimate(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    potential: Callable[[nn.Module], Tensor] | None = None,
    n_beta: float | None = None,
    gamma: float | None = None,
    sampler: str = "auto",
    step_size: float | None = None,
    chains: int = 4,
    draws: int | None = None,
    burn_in: int | None = None,
    batch_size: int | None = None,
    precision: float = 0.05,
    budget: int | None = None,
    only: str | Sequence[str] | Mapping[str, Tensor | None] | None = None,
    behavioural: bool = False,
    control_variate: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    compile: str = "auto",
    memory: float | None = None,
    autocast: bool = False,
    seconds: float | None = None,
    progress: bool | Report | None = None,
) -> Estimate:
    """Estimate the local learning coefficient of a model at its current weights w*.

    λ̂ = nβ(E[L(w)] − L(w*)) over p(w) ∝ exp(−nβL(w) − (γ/2)‖w − w*‖²)
    (Lau, Furman, Wang, Murfet & Wei 2023, arXiv 2308.12108). The model is copied, never touched.

    Args:
        model: an ``nn.Module`` at w*, or a `Task`, which brings its own data and loss.
        data: a pair of tensors, a map-style ``Dataset`` or a ``DataLoader``.
        loss: ``"cross_entropy"``, ``"mse"`` or a function of (outputs, targets): a mean, or one
            value per example.
        batch_loss: instead, a function of (model, batch).
        potential: instead, a function of the model alone; needs ``n_beta``.
        n_beta: nβ; n/ln n with n the size of the data set unless given.
        gamma: γ; chosen by `llc.calibrate` unless given.
        sampler: ``"auto"`` (kinetic Langevin) or one of `llc.settings.SAMPLERS`.
        step_size: ε of the first-order samplers, h of ``kinetic``, ``sgnht``, ``hmc`` and
            ``malt``; follows the curvature along the chains unless given.
        chains: number of chains, started at w*.
        draws: kept draws a chain; until ``precision`` unless given.
        burn_in: discarded steps a chain; until the virial is 1 unless given.
        batch_size: examples a gradient; all up to 4096, else 512, unless given.
        precision: relative half-width of the 95 % interval to reach (where the LLC is nearer to
            zero than half the standard deviation of nβ(L − L*), relative to that).
        budget: most gradient evaluations, all chains together; 100,000 a chain unless given.
        only: the part of the weights that is sampled, the rest staying at w*: names, patterns or
            slices of parameters, heads, or a dictionary of boolean masks, see `llc.parts`. What
            comes out is the weight-refined LLC (Wang, Hoogland, van Wingerden, Furman & Murfet
            2024, arXiv 2410.02984).
        behavioural: measure towards the model's own outputs at w*, which makes w* a minimum.
        control_variate: correct each minibatch's gradient by what the same batch errs by at w*,
            for twice the gradients.
        seed: seeds every random stream; the process's own generators are left alone.
        device: where to compute; the model's own unless given.
        compile: ``"auto"``, ``"off"``, ``"trace"`` or ``"inductor"``: how steps are run. It
            changes speed, and numbers by no more than rounding; ``"off"`` also leaves a large
            model's products to torch's own choice of library.
        memory: GiB that chains may take, 80 % of what is free unless given; what does not fit
            side by side runs one after another.
        autocast: evaluate the model in bfloat16 where torch's autocast does; weights stay as
            they are.
        seconds: time it may take, set-up and the choice of γ included; it ends with what it has
            by then, and says so. No limit unless given.
        progress: True for a bar, or a function of (phase, done, total).

    Returns:
        The estimate with error bar, diagnostics and verdict.

    Raises:
        InputError: something given cannot be used; one sentence says what to give instead.
    """
    task = Task.of(model, data, loss, batch_loss, potential)
    settings = Settings(
        n_beta, gamma, sampler, step_size, chains, draws, burn_in, batch_size, precision, budget,
        behavioural, control_variate, seed, as_strings(only),
    )  # fmt: skip
    execution = Execution(device, compile, memory, autocast, seconds)
    return estimate_task(task, settings, execution=execution, progress=progress)


def estimate_task(
    task: Task,
    settings: Settings,
    *,
    execution: Execution | None = None,
    progress: bool | Report | None = None,
) -> Estimate:
    """Estimate as `estimate` does, from a `Task` and `Settings`."""
    started = time.perf_counter()
    fill(settings, task.size)  # refuses what does not fit the data before the model is run
    with (
        undisturbed(),
        Bar(task.label) if progress is True else nullcontext(progress or _silent) as report,
    ):
        begun = (execution or Execution()).begun()
        surface = LossSurface(
            task, behavioural=settings.behavioural, execution=begun, only=settings.only
        )
        chosen, choice = choose(surface, settings, report)
        course = None if choice.pilot is None else choice.pilot.course
        found, _ = measure(surface, chosen, report, spent=choice.evaluations, course=course)
    return replace(found, seconds=time.perf_counter() - started)


def measure(
    surface: LossSurface,
    settings: Settings,
    report: Report,
    *,
    spent: int = 0,
    start: Start | None = None,
    course: Course | None = None,
) -> tuple[Estimate, Start]:
    """Sample one posterior and judge what came out.

    Args:
        surface: the loss around w*.
        settings: with nβ and γ.
        report: progress callback.
        spent: gradients already taken off the budget.
        start: where chains of an earlier run at another γ ended; None for w*.
        course: a run with these very settings, but for precision and budget, to go on with; it is
            among what was spent. The draws are those of a run from the beginning.

    Returns:
        The estimate, and where its chains ended.
    """
    started = time.perf_counter()
    assert settings.n_beta is not None
    assert settings.gamma is not None
    posterior = Posterior(surface, settings.n_beta, settings.gamma, settings.control_variate)
    if course is None:
        samples = sample(posterior, _what_is_left(settings, spent), report, start)
    else:
        spent -= course.evaluations
        course.advance(_what_is_left(settings, spent), report)
        samples = samples_of(course)[0]
    count = NULL_DRAWS_OF_LARGE if surface.lends else NULL_DRAWS
    null = posterior.prior_only(settings.seed, count, samples.batch_size)
    shift, looked = gradient_shift(posterior, samples)
    off = rounding(posterior, samples)
    seconds = time.perf_counter() - started
    found = assemble(posterior, settings, samples, spent + looked, null, shift, seconds, off)
    return _with_derivative_compared(found, surface, samples), samples.end


def estimate_stack(
    tasks: Sequence[Task], settings: Settings, *, execution: Execution | None = None
) -> list[Estimate]:
    """Estimate several checkpoints of one architecture in one run, their chains side by side.

    Chain c of every checkpoint sees the same noise and batches, as when they are estimated one by
    one. First-order samplers then give the same draws, up to rounding; kinetic ones choose one
    production friction for all, and differ within their errors.

    Args:
        tasks: one per checkpoint, alike but for the weights.
        settings: with n_beta, gamma, step_size, burn_in and draws given, since nothing can be
            followed for each checkpoint by itself.
        execution: where and how to compute.

    Raises:
        InputError: a setting left open, or tasks that cannot share a run.
    """
    needed = ("n_beta", "gamma", "step_size", "burn_in", "draws")
    missing = [name for name in needed if getattr(settings, name) is None]
    if missing:
        raise InputError(
            f"{missing[0]} is left open, but checkpoints can share a run only with n_beta, gamma, "
            "step_size, burn_in and draws given: give it, or estimate them one by one"
        )
    started = time.perf_counter()
    with undisturbed():
        surfaces = [
            LossSurface(
                task, behavioural=settings.behavioural, execution=execution, only=settings.only
            )
            for task in tasks
        ]
        why_not = why_not_stacked(surfaces)
        if why_not is not None:
            raise InputError(f"the checkpoints cannot share a run: {why_not}")
        chosen, _, _ = resolve(surfaces[0], settings)
        law = chosen.n_beta or 0.0, chosen.gamma or 0.0, chosen.control_variate
        together = Posterior(StackedSurface(surfaces, settings.chains), *law)
        many = replace(chosen, chains=len(tasks) * settings.chains)
        parts = sample_stack(together, many, _silent)
        results = []
        for i, (surface, samples) in enumerate(zip(surfaces, parts, strict=True)):
            posterior = Posterior(surface, *law)
            null = posterior.prior_only(chosen.seed, NULL_DRAWS, samples.batch_size)
            shift, looked = gradient_shift(posterior, samples)
            own = slice(i * chosen.chains, (i + 1) * chosen.chains)
            off = rounding(posterior, samples, own)
            results.append((posterior, samples, looked, null, shift, off))
    seconds = (time.perf_counter() - started) / len(tasks)
    return [
        assemble(posterior, chosen, samples, looked, null, shift, seconds, off)
        for posterior, samples, looked, null, shift, off in results
    ]


def _with_derivative_compared(
    estimate: Estimate, surface: LossSurface, samples: Samples
) -> Estimate:
    """Compare the gradient with the loss once more, where one of the chains has ended."""
    places = samples.end.state.displacement[torch.from_numpy(~samples.diverged)]
    mismatch = surface.mismatch_at(places[0]) if len(places) else None
    if mismatch is None:
        return estimate
    verdict = estimate.verdict.with_reason(Reason.GRADIENT_MISMATCH, "fail", str(mismatch))
    return replace(estimate, verdict=verdict)


def _what_is_left(settings: Settings, spent: int) -> Settings:
    """Take what the choice of γ has cost off a given budget, but leave a tenth to sample with."""
    if settings.budget is None:
        return settings
    return replace(settings, budget=max(settings.budget - spent, settings.budget // 10, 1))


def _silent(*_: object) -> None:
    pass
