"""One set of settings for all checkpoints of a run, chosen at a few of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from llc.calibration import Resolved, fill, freeze_task
from llc.errors import InputError
from llc.execution import Execution
from llc.progress import part_of
from llc.sampling.chains import Report
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.agreement import DIGITS, Trial, agree, in_turn, picks
from llc.trajectory.sources import Item

__all__ = ["FROZEN", "Settled", "is_open", "settle"]

FROZEN = ("step_size", "burn_in", "draws")
BUDGET = 100_000
Choose = Callable[[Task, Settings, Execution | None, Report | None], Resolved]


class Settled(NamedTuple):
    """Settings of a run, and pilots with these very settings, to be gone on with."""

    settings: Settings
    trials: list[Trial]


def is_open(settings: Settings, freeze: bool) -> bool:
    """Whether anything has to be chosen by looking at checkpoints."""
    left = [name for name in FROZEN if getattr(settings, name) is None]
    return settings.gamma is None or (freeze and bool(left))


def settle(
    task: Task,
    items: Sequence[Item],
    wanted: Settings,
    freeze: bool,
    execution: Execution | None,
    report: Report | None = None,
) -> Settled:
    """Choose what is open at a few checkpoints, for all of them.

    γ is chosen at the last checkpoint and tried at the first and the middle one, by a pilot each.
    Where that pilot speaks against it, the checkpoint chooses for itself, and the larger γ, the
    more local, is kept. With ``freeze`` step size, burn-in and draws are then settled at the
    first, the middle and the last one: the smallest step, and the most burn-in and draws counted
    in time, since steps half as long take twice as many. Numbers are rounded to six digits, so
    that machines that round differently agree.

    Args:
        task: its own weights do not matter.
        items: checkpoints to choose from; others stand in for pilots that cannot be used.
        wanted: choices already made.
        freeze: settle step size, burn-in and draws too.
        execution: device and limits.
        report: progress callback.

    Raises:
        InputError: none of the checkpoints can be used.
    """
    filled = fill(wanted, task.size)  # refuses what does not fit the data
    if not is_open(wanted, freeze):
        return Settled(filled, [])
    if wanted.gamma is None:
        chosen, trials = agree(task, items, wanted, execution, report)
    else:
        chosen, trials = filled, []
    if not is_open(chosen, freeze):
        return Settled(chosen, trials)
    # The name of the sampler stays open: a frozen step may ask for another.
    named = replace(chosen, sampler=wanted.sampler, batch_size=wanted.batch_size)
    votes = _ask(task, items, named, execution, freeze_task, report)
    others = {vote.sampler for vote in votes} - {chosen.sampler}
    if others and len({vote.sampler for vote in votes}) > 1:
        again = replace(named, sampler=others.pop())
        votes = _ask(task, items, again, execution, freeze_task, report)
    return Settled(_safest(votes, wanted), [])


def _safest(votes: Sequence[Settings], wanted: Settings) -> Settings:
    """Take the smallest step, and the longest of the runs in time."""
    smallest = min(votes, key=lambda vote: vote.step_size or math.inf)
    step = smallest.step_size or 0.0
    batches = [vote.batch_size for vote in votes if vote.batch_size is not None]
    steps = {
        name: max((getattr(v, name) or 0) * _times(v.step_size, step) for v in votes)
        for name in ("burn_in", "draws")
    }
    if wanted.draws is None:
        most = (wanted.budget or BUDGET * smallest.chains) // smallest.chains - steps["burn_in"]
        steps["draws"] = max(min(steps["draws"], most), 1)
    of = f"of {len(votes)} checkpoints'"
    why = {
        "step_size": f"smallest {of}; {smallest.reasons.get('step_size', '')}",
        "burn_in": f"longest {of}, counted in time",
        "draws": f"most {of}, counted in time; {smallest.reasons.get('draws', '')}",
    }
    own = {name: getattr(wanted, name) for name in FROZEN if getattr(wanted, name) is not None}
    lengths = {name: math.ceil(value) for name, value in steps.items()}
    found: dict[str, Any] = {"step_size": _rounded(step), **lengths, **own}
    reasons = {k: v for k, v in smallest.reasons.items() if k not in FROZEN}
    reasons |= {name: why[name] for name in FROZEN if name not in own}
    batch = max(batches) if batches else smallest.batch_size
    return replace(smallest, **found, batch_size=batch, reasons=reasons)


def _times(own: float | None, least: float) -> float:
    return own / least if own is not None and least > 0 else 1.0


def _ask(
    task: Task,
    items: Sequence[Item],
    wanted: Settings,
    execution: Execution | None,
    choose: Choose,
    report: Report | None,
) -> list[Settings]:
    """Let the pilots choose; a checkpoint where nothing settles has no say if another does."""
    choices: list[Resolved] = []
    problems: list[InputError] = []
    chosen = picks(len(items))
    for position in in_turn(len(items), chosen):
        # Others stand in, latest first, only where none of the pilots can be used.
        if choices and position not in chosen:
            break
        try:
            weights, _ = items[position].read()
            told = None if report is None else part_of(f"step {items[position].step}", report)
            choices.append(choose(task.at(weights), wanted, execution, told))
        except InputError as error:
            problems.append(InputError(f"step {items[position].step}: {error}"))
    if not choices:
        raise InputError(f"no checkpoint could be estimated; {problems[0]}") from problems[0]
    sound = [choice.settings for choice in choices if choice.sound]
    return sound or [choice.settings for choice in choices]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
