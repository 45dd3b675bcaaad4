"""One set of settings for all checkpoints of a run, chosen at a few of them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from llc.calibration import Resolved, fill, freeze_task, resolve_task
from llc.errors import InputError
from llc.execution import Execution
from llc.progress import part_of
from llc.sampling.chains import Report
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.sources import Item

__all__ = ["FROZEN", "PILOTS", "is_open", "picks", "settle"]

PILOTS = 3
FROZEN = ("step_size", "burn_in", "draws")
BUDGET = 100_000
Choose = Callable[[Task, Settings, Execution | None, Report | None], Resolved]


def is_open(settings: Settings, freeze: bool) -> bool:
    """Whether anything has to be chosen by looking at checkpoints."""
    left = [name for name in FROZEN if getattr(settings, name) is None]
    return settings.gamma is None or (freeze and bool(left))


def picks(count: int) -> list[int]:
    """Positions of the pilots: first, middle, last."""
    return sorted({round(i * (count - 1) / (PILOTS - 1)) for i in range(PILOTS)})


def settle(
    task: Task,
    items: Sequence[Item],
    wanted: Settings,
    freeze: bool,
    execution: Execution | None,
    report: Report | None = None,
) -> Settings:
    """Choose what is open at the first, the middle and the last checkpoint; keep the safest.

    γ is the largest of theirs, the most local. With ``freeze`` step size, burn-in and draws are
    then settled at that γ: the smallest step, and the most burn-in and draws counted in time,
    since steps half as long take twice as many. Numbers are rounded to six digits, so that
    machines that round differently agree.

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
    if not is_open(wanted, freeze):
        return fill(wanted, task.size)
    if wanted.gamma is None:
        voters = _ask(task, items, wanted, execution, resolve_task, report)
        most = max(voters, key=lambda settings: settings.gamma or 0.0)
        assert most.gamma is not None
        why = f"largest of {len(voters)} checkpoints'; {most.reasons['gamma']}"
        chosen = replace(
            most, gamma=_rounded(most.gamma), reasons={**most.reasons, "gamma": why}
        )  # fmt: skip
    else:
        chosen = fill(wanted, task.size)
    if not is_open(chosen, freeze):
        return chosen
    # The name of the sampler stays open: a frozen step may ask for another.
    named = replace(chosen, sampler=wanted.sampler, batch_size=wanted.batch_size)
    votes = _ask(task, items, named, execution, freeze_task, report)
    others = {vote.sampler for vote in votes} - {chosen.sampler}
    if others and len({vote.sampler for vote in votes}) > 1:
        again = replace(named, sampler=others.pop())
        votes = _ask(task, items, again, execution, freeze_task, report)
    return _safest(votes, wanted)


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
    for position in _order(len(items), chosen):
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


def _order(count: int, first: Sequence[int]) -> Iterator[int]:
    yield from first
    yield from (i for i in reversed(range(count)) if i not in first)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
