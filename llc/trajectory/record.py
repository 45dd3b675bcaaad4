"""``run.json``: what a run folder was made with, and whether it is what is asked for now."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

import llc
from llc.calibration import fill
from llc.errors import InputError, some
from llc.execution import Execution
from llc.sampling.chains import Report
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.agreement import PILOTS
from llc.trajectory.common import Settled, is_open, settle
from llc.trajectory.fingerprints import fingerprint_parts
from llc.trajectory.sameness import UNSEEDED, Blueprint, Witness, listed
from llc.trajectory.sources import Item
from llc.trajectory.store import RunFolder
from llc.trajectory.work import Order

__all__ = ["compare_task", "demand_the_same", "make_record", "refuse_drawn", "settle_in"]

UNCHANGED = (
    "where nothing was changed, the task depends on the process or the time: seed it, sort it, or "
    "load its data from a file"
)
OTHER = {"model": "another model", "data": "other data", "loss": "another loss"}


def compare_task(
    folder: RunFolder, blueprint: Blueprint, order: Order, *, alone: bool
) -> tuple[tuple[str, ...], Order]:
    """Compare a task with the one that a folder was begun with, or say there that this is it.

    Args:
        folder: the run folder.
        blueprint: of the task.
        order: to be given the names of what counts only where a checkpoint does not bring it.
        alone: whether nobody else works on the folder.

    Returns:
        Names of what differs, readings apart, and the order.

    Raises:
        InputError: it is drawn anew at every call.
    """
    then = folder.claim(blueprint.witness, alone=alone)
    unlike = refuse_drawn(folder, then, blueprint)
    order = replace(order, doubts=then.doubts(blueprint.witness))
    # Other readings may be asked for at any time, and are then measured anew.
    return tuple(name for name in unlike if "the reading " not in name), order


def refuse_drawn(folder: RunFolder, then: Witness, blueprint: Blueprint) -> tuple[str, ...]:
    """Return names of what differs from the task that a folder was begun with.

    Raises:
        InputError: some of it is drawn anew at every call.
    """
    unlike = then.differences(blueprint.witness)
    again = blueprint.again() if unlike else ()
    if drawn := [name for name in unlike if name in again]:
        raise InputError(
            f"{folder.folder} was begun with another draw of the task: its {listed(drawn)} "
            f"differ{'' if len(drawn) > 1 else 's'}, {UNSEEDED}, and another folder as out"
        )
    return unlike


def make_record(
    task: Task,
    parts: Mapping[str, str],
    asked: Settings,
    freeze: bool,
    settings: Settings,
    steps: Sequence[int] | None,
) -> dict[str, Any]:
    """Put together what ``run.json`` holds; steps are None as long as they are not known."""
    return {
        "task": task.label,
        "steps": None if steps is None else list(steps),
        "settings": settings.to_dict(),
        "asked": {**_values(asked), "freeze": freeze},
        "task_fingerprint": dict(parts),
        "versions": {
            "llc": llc.__version__, "torch": torch.__version__, "numpy": np.__version__,
        },
    }  # fmt: skip


def demand_the_same(
    record: Mapping[str, Any],
    folder: Path,
    parts: Mapping[str, str],
    asked: Settings,
    freeze: bool,
    unlike: Sequence[str] = (),
) -> Settings:
    """Return a folder's settings, if it was made for the same task with the same settings.

    A setting agrees if it was asked for with the same value, or is given now with the value that
    was chosen then. How checkpoints are computed (workers, shards, device) is of no concern.

    Args:
        record: what ``run.json`` holds.
        folder: for the message.
        parts: fingerprints of the task's model, data and loss.
        asked: settings, n_beta and sampler filled in.
        freeze: whether step size, burn-in and draws are frozen.
        unlike: pieces of the task that are known to differ.

    Raises:
        InputError: anything differs; the message says what.
    """
    settings = Settings.from_dict(record["settings"])
    then, chosen = record.get("asked") or {}, _values(settings)
    now = {**_values(asked), "freeze": freeze}
    settled = all(now[name] == chosen[name] for name in chosen)
    different = [
        f"{name} {_word(then.get(name))} (now {_word(value)})"
        for name, value in now.items()
        if not settled and value != then.get(name) and (value is None or value != chosen.get(name))
    ]
    marks = record.get("task_fingerprint") or {}
    others = [OTHER[name] for name, mark in parts.items() if marks.get(name) != mark]
    if unlike:
        others = [f"{' and '.join(others) or 'another task'} ({some(unlike)})"]
    different += others
    version = (record.get("versions") or {}).get("llc")
    if version != llc.__version__:
        different.append(f"llc {version} (now {llc.__version__})")
    if different:
        raise InputError(
            f"{folder} holds a trace made otherwise: {some(different, 6)}: give another folder "
            "as out, or repeat what it was made with" + (f" ({UNCHANGED})" if unlike else "")
        )
    return settings


def settle_in(
    task: Task,
    items: list[Item] | None,
    feed: Iterator[Item | None],
    wanted: Settings,
    freeze: bool,
    folder: RunFolder | None,
    execution: Execution | None,
    report: Report | None,
    keep: Callable[[Settled], None],
    unlike: Sequence[str] = (),
) -> tuple[Settings, Iterator[Item | None]]:
    """Find the settings of a folder, or choose them and write ``run.json``.

    Args:
        task: its own weights do not matter.
        items: all checkpoints, by step; None where they are read as they come.
        feed: the checkpoints, one after another.
        wanted: choices already made.
        freeze: share step size, burn-in and draws too.
        folder: the run folder, if there is one.
        execution: device and limits.
        report: progress callback of the choice.
        keep: called with what was found, before it is written that it was: a trace that is killed
            between the two chooses again, and what goes on later has the same numbers.
        unlike: pieces of the task that differ from what the folder was begun with.

    Returns:
        The settings, and the checkpoints, of which none is lost.

    Raises:
        InputError: the folder was made otherwise, or there is nothing to choose settings at.
    """
    asked, parts = fill(wanted, task.size), fingerprint_parts(task)
    record = None if folder is None else folder.record()
    steps = None if items is None else [item.step for item in items]
    if folder is not None and record is not None:
        chosen = demand_the_same(record, folder.folder, parts, asked, freeze, unlike)
        if record["steps"] != steps:
            folder.describe({**record, "steps": steps})
        return chosen, feed
    if folder is not None and unlike:
        raise InputError(
            f"{folder.folder} was begun with another task ({some(unlike)}): give another folder as "
            f"out, or repeat what it was begun with ({UNCHANGED})"
        )
    pilots = items
    if pilots is None and is_open(wanted, freeze):
        pilots, feed = _head(feed)
        if not pilots:
            raise InputError("checkpoints is empty, or none came in time: give at least one")
    settled = settle(task, pilots or [], wanted, freeze, execution, report)
    chosen = settled.settings
    if folder is not None:
        keep(settled)
        record = make_record(task, parts, asked, freeze, chosen, steps)
        if not folder.describe(record, first=True):
            # Another shard was first: what it chose is for all.
            first = folder.record()
            assert first is not None
            chosen = demand_the_same(first, folder.folder, parts, asked, freeze)
    return chosen, feed


def _head(feed: Iterator[Item | None]) -> tuple[list[Item], Iterator[Item | None]]:
    """Take the first checkpoints of a source that is read as it goes, to choose settings at."""
    found: list[Item] = []
    for item in feed:
        if item is not None:
            found.append(item)
        elif found:
            break
        if len(found) == PILOTS:
            break
    return found, chain(found, feed)


def _values(settings: Settings) -> dict[str, Any]:
    values = settings.to_dict()
    return {f.name: values[f.name] for f in fields(Settings) if f.name != "reasons"}


def _word(value: Any) -> str:
    if value is None:
        return "left open"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
