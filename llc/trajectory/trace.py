"""Estimate every checkpoint of a training run with one set of settings."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from llc.errors import InputError
from llc.execution import Execution
from llc.progress import Bar
from llc.sampling.chains import Report
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.agreement import finish
from llc.trajectory.checks import check, check_stack
from llc.trajectory.columns import refuse_ours
from llc.trajectory.common import Settled, is_open
from llc.trajectory.crew import Crew, Foreign, Here
from llc.trajectory.disk import held
from llc.trajectory.fingerprints import fingerprint_task, fingerprint_values
from llc.trajectory.follow import follow as follow_files
from llc.trajectory.given import given_items
from llc.trajectory.processes import Processes
from llc.trajectory.record import compare_task, settle_in
from llc.trajectory.run import Run
from llc.trajectory.sameness import Blueprint, Unlike, built, explained
from llc.trajectory.sources import Source, coarse_to_fine, is_lazy
from llc.trajectory.store import Kept, RunFolder
from llc.trajectory.trajectory import Trajectory
from llc.trajectory.watch import Progress, Watch
from llc.trajectory.work import Order

__all__ = ["trace"]


def trace(
    task: Task | Callable[[], Task],
    checkpoints: Source,
    *,
    out: str | Path | None = None,
    settings: Settings | None = None,
    freeze: bool = False,
    readings: Mapping[str, Any] | None = None,
    n_eff: bool = False,
    step_from: str | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
    stack: int = 1,
    follow: bool = False,
    follow_for: float | None = None,
    execution: Execution | None = None,
    progress: Progress = None,
    entry: str | None = None,
    drop: str | Sequence[str] = (),
    **given: Any,
) -> Trajectory:
    """Estimate the LLC at every checkpoint of a training run.

    One nβ, one γ and one seed, of noise and of batches, serve all checkpoints, so that differences
    between them are differences of the checkpoints. Where γ is not given it is chosen at the
    last checkpoint, and raised where the first or the middle one cannot do with it. Step size,
    burn-in and
    draws follow each checkpoint's own curvature; with ``freeze`` they too are shared, the safest
    of the three checkpoints', and each estimate's own verdict says where they do not serve. It is
    not the default since shared noise alone does most of what it is for: on a network that groks,
    errors of neighbouring checkpoints correlate by 0.85 without it and by 0.83 with it, for 1,300
    and 2,900 gradients a checkpoint. A ``stack`` needs it.

    Args:
        task: the model (its own weights do not matter), data and loss; or a function that returns
            it, which worker processes call for themselves.
        checkpoints: a folder, a pattern such as ``"run/step_*.pt"``, a list of paths, of
            `Checkpoint` objects or of pairs (step, state dict); or an iterator of any of these,
            which is read as it goes, so that no more than a few are held at once. Files say their
            steps by one rule: as a number of steps that they hold (``global_step``, ``step``,
            ``iteration``), after such a word in their names, as an epoch, or as the one number
            of their names that varies.
        out: a run folder; estimates found there with the same fingerprint of weights, data,
            loss and settings are reused, so that a trace that was killed goes on where it was.
        settings: as for `estimate`.
        freeze: share step size, burn-in and draws too.
        readings: what to measure beside the LLC, instead of the task's own; see `Task`.
        n_eff: measure N_eff(γ/nβ) = Σ h_i/(h_i + γ/nβ) of the curvature too, as column ``n_eff``.
        step_from: where the step of a file stands, if it cannot be found out: "file" or "name"; a
            key of the files such as "global_step", or a word of the names such as "epoch"; or "2"
            for the second number of a name.
        workers: processes, one thread each; 1 computes here. More need a task that can be pickled,
            or a function that returns it.
        executor: instead, any ``concurrent.futures.Executor``.
        shard: (i, N): every N-th checkpoint, beginning with the i-th, so that N machines share a
            run; the folder may be shared, and the same call without it collects what they did.
        stack: checkpoints that share a run, their chains side by side; more than one needs
            ``step_size``, ``burn_in`` and ``draws`` given or frozen, and pays for small batches on
            a CPU and for small models on a GPU.
        follow: go on looking for checkpoints in a folder or pattern as a training run writes them;
            Ctrl-C ends it, with the trajectory so far.
        follow_for: end it also after so many seconds without a new one.
        execution: device, compilation and memory limit; none of it decides a result.
        progress: True for a bar, or a function called with (step, estimate or None if skipped).
            First, last and middle checkpoint come first, then those between them, so that what is
            finished spans the whole run; files that come one by one, shards and stacks keep their
            order.
        entry: which state dict to read from files that hold several, as for `llc.load_weights`.
        drop: patterns of names to leave out of every checkpoint, as for `llc.load_weights`.
        **given: single settings, instead of ``settings``.

    Returns:
        The trajectory. Checkpoints that cannot be estimated are in ``skipped``, with the reason.
        With ``out`` the traces of its estimates stay on disk until somebody looks at them. With
        ``shard`` and ``out`` it holds what is finished in the folder by whomever.

    Raises:
        InputError: no checkpoint, or none that can be estimated; two of one step; a folder that
            cannot be written, or was made with other settings, which are named; a stack without
            the settings it needs; a task that is not the same in every process, such as one that
            draws its data without a seed.
    """
    build = task if readings is None else partial(_with_readings, task, readings)
    blueprint = Blueprint.of(build)
    task = blueprint()
    refuse_ours(task.readings)
    wanted = replace(settings or Settings(), **given)
    check(stack, wanted, freeze, workers, executor, shard, follow, follow_for, checkpoints)
    # Before a folder is made: what is not there leaves nothing behind.
    items = None
    if not follow and not is_lazy(checkpoints):
        items = list(given_items(task, checkpoints, entry, drop, step_from))
        if not items:
            raise InputError("checkpoints is empty: give at least one")
    with nullcontext() if out is None else held(Path(out), shared=shard is not None):
        if follow:
            assert isinstance(checkpoints, str | Path)
            feed = follow_files(
                checkpoints, follow_for, step_from=step_from, entry=entry, drop=drop
            )
        else:
            feed = given_items(task, checkpoints, entry, drop, step_from)
            if items is not None:
                # Shards and stacks are parts of the run in its own order.
                alone = shard is None and stack == 1
                feed = iter(coarse_to_fine(items) if alone else items)
        folder = None if out is None else RunFolder(out)
        key, named = fingerprint_task(task), fingerprint_values(dict(task.readings or {}))
        order = Order(task, key, wanted, execution, n_eff, named)
        watch = Watch.of(progress)
        run = Run(order, folder, shard, stack)
        try:
            unlike: tuple[str, ...] = ()
            if folder is not None:
                unlike, run.order = compare_task(folder, blueprint, order, alone=shard is None)
            crew = _crew(run.order, blueprint, workers, executor)
            with ExitStack() as unless_begun:
                unless_begun.callback(crew.close, done=False)
                if is_open(wanted, freeze) and (folder is None or folder.record() is None):
                    # Before gradients are spent on the choice.
                    crew.compare()
                with Bar(task.label) if watch.shown else nullcontext() as report:
                    chosen, feed = settle_in(
                        task, items, feed, wanted, freeze, folder, execution, report,
                        partial(_keep, folder, run.order, report), unlike,
                    )  # fmt: skip
                check_stack(stack, chosen)
                unless_begun.pop_all()
            crew.settings = chosen
            run.order = replace(run.order, settings=chosen)
            total = None if items is None else len(items[run.first :: run.every])
            with watch.begin(task.label, total, workers):
                run.go(feed, crew, watch, patient=follow)
        except Unlike as different:
            if folder is not None:
                folder.unclaim()
            raise explained(different, blueprint) from None
        return run.finish(task.label, whole=items is not None)


def _crew(order: Order, blueprint: Blueprint, workers: int, executor: Executor | None) -> Crew:
    if executor is not None:
        assert isinstance(order.task, Task)
        return Foreign(replace(order, task=Blueprint(order.task)), executor)
    if workers > 1:
        return Processes(replace(order, task=blueprint), workers)
    return Here(order)


def _keep(folder: RunFolder | None, order: Order, report: Report | None, settled: Settled) -> None:
    """Let the pilots that settings were chosen by become estimates; readings come later."""
    limited = order.execution is not None and order.execution.seconds is not None
    if folder is None or limited:
        return
    order = replace(order, settings=settled.settings)
    for item, estimate in finish(settled.trials, settled.settings, report):
        mark, _ = order.mark(*item.read())
        folder.keep(item.step, mark, Kept(estimate, {}, ""))


def _with_readings(task: Task | Callable[[], Task], readings: Mapping[str, Any]) -> Task:
    return replace(built(task), readings=readings)
