"""One γ for all checkpoints of a run: chosen at one of them, tried at two others."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from llc.calibration import PATIENCE, Choice, Pilot, choose, pilot_at
from llc.errors import InputError
from llc.estimation import Estimate
from llc.estimator import measure
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.progress import part_of
from llc.sampling.chains import Report
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task
from llc.trajectory.sources import Item

__all__ = ["DIGITS", "PILOTS", "Trial", "agree", "finish", "in_turn", "picks"]

PILOTS = 3
# So that machines that round differently agree.
DIGITS = 6


class Trial(NamedTuple):
    """A pilot, and where; the loss too if the pilot can be gone on with."""

    item: Item
    surface: LossSurface | None
    pilot: Pilot

    @classmethod
    def of(cls, item: Item, surface: LossSurface, pilot: Pilot) -> "Trial":
        """Put together what is worth to be held."""
        return cls(item, None if pilot.course is None else surface, pilot)


class _Vote(NamedTuple):
    item: Item
    settings: Settings
    choice: Choice


def picks(count: int) -> list[int]:
    """Positions of the pilots: first, middle, last."""
    return sorted({round(i * (count - 1) / (PILOTS - 1)) for i in range(PILOTS)})


def in_turn(count: int, first: Sequence[int]) -> Iterator[int]:
    """Yield positions, some of them first, then the others, the latest first."""
    yield from first
    yield from (i for i in reversed(range(count)) if i not in first)


def agree(
    task: Task,
    items: Sequence[Item],
    wanted: Settings,
    execution: Execution | None,
    report: Report | None,
) -> tuple[Settings, list[Trial]]:
    """Choose γ at the last checkpoint, and raise it where the first or the middle one need it.

    A checkpoint where no γ settles has no say if another has.

    Returns:
        The settings, and the pilots at their γ, to be gone on with.

    Raises:
        InputError: none of the checkpoints can be used.
    """
    sound: list[_Vote] = []
    doubtful: list[_Vote] = []
    trials: list[Trial] = []
    problems: list[InputError] = []
    # Weights before training bear a γ at which none of the others settles: they come last.
    first = picks(len(items))[::-1]
    for position in in_turn(len(items), first):
        # Others stand in only where none of the pilots can be used.
        if (sound or doubtful) and position not in first:
            break
        item = items[position]
        place = f"choosing gamma at step {item.step}"
        if position in first:
            place += f" ({first.index(position) + 1} of {len(first)})"
        told = part_of(place, report or _silent)
        try:
            with undisturbed():
                vote, trial = _try(task, item, wanted, execution, told, sound)
        except InputError as error:
            problems.append(InputError(f"step {item.step}: {error}"))
            continue
        trials += [] if trial is None else [trial]
        if vote is not None:
            (sound if vote.choice.sound else doubtful).append(vote)
    votes = sound or doubtful
    if not votes:
        raise InputError(f"no checkpoint could be estimated; {problems[0]}") from problems[0]
    most = max(votes, key=lambda vote: vote.choice.gamma)
    gamma = most.choice.gamma
    agreed = [trial for trial in trials if trial.pilot.gamma == gamma]
    served = sorted(trial.item.step for trial in agreed if trial.item.step != most.item.step)
    why = f"chosen at step {most.item.step}, {most.choice.why}"
    if served:
        why += f"; it serves at {' and '.join(map(str, served))}"
    reasons = {**most.settings.reasons, "gamma": why}
    return replace(most.settings, reasons=reasons), agreed


def _try(
    task: Task,
    item: Item,
    wanted: Settings,
    execution: Execution | None,
    report: Report,
    before: Sequence[_Vote],
) -> tuple[_Vote | None, Trial | None]:
    """Try the γ that others chose; choose one where there is none yet, or where it fails."""
    weights, _ = item.read()
    surface = LossSurface(
        task.at(weights), behavioural=wanted.behavioural, execution=execution, only=wanted.only
    )
    gamma = max((vote.choice.gamma for vote in before), default=0.0)
    if before:
        shared = replace(before[0].settings, gamma=gamma)
        tried = pilot_at(
            surface,
            shared,
            gamma,
            report=part_of(f"trying gamma {gamma:.4g}", report),
            patience=PATIENCE,
        )
        if not tried.why_not:
            return None, Trial.of(item, surface, tried)
    settings, choice = choose(surface, wanted, report, digits=DIGITS, above=gamma)
    trial = None if choice.pilot is None else Trial.of(item, surface, choice.pilot)
    return _Vote(item, settings, choice), trial


def finish(
    trials: Sequence[Trial], settings: Settings, report: Report | None
) -> Iterator[tuple[Item, Estimate]]:
    """Go on with pilots until they are the estimates of their checkpoints.

    What they then are is what `llc.estimator.estimate_task` gives, number by number.
    """
    for item, surface, pilot in trials:
        if surface is None or pilot.course is None:
            continue
        told = part_of(f"estimating step {item.step}", report or _silent)
        with undisturbed():
            spent = pilot.course.evaluations
            found, _ = measure(surface, settings, told, spent=spent, course=pilot.course)
        yield item, found


def _silent(*_: object) -> None:
    pass
