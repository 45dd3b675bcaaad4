"""``command.json``: what a run folder was made of, so that later commands need not be told again.

It names the task and the checkpoints, with whole paths where they lie elsewhere; ``run.json`` holds
fingerprints of both, from which neither could be found again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llc.files import read_json, write_whole
from llc.language import hub

__all__ = ["Command", "recall", "remember"]

FILE = "command.json"


@dataclass(frozen=True)
class Command:
    """What a run folder was made of.

    Attributes:
        task: as after ``--task``, a file by its whole path.
        checkpoints: folders, files or patterns.
        arguments: of the task's function, where a demo gave some.
        step_from: as after ``--step-from``; None where it was not given.
        entry: which state dict was read from each checkpoint.
        drop: patterns of names that were left out of each.
    """

    task: str
    checkpoints: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    step_from: str | None = None
    entry: str | None = None
    drop: tuple[str, ...] = ()


def remember(
    folder: Path,
    task: str,
    checkpoints: Sequence[str | Path],
    arguments: Mapping[str, Any] | None = None,
    step_from: str | None = None,
    entry: str | None = None,
    drop: Sequence[str] = (),
) -> None:
    """Write what a run folder is made of, unless it says so already."""
    record = {
        "task": _whole(task),
        "checkpoints": [
            _named(str(place)) if hub.is_named(place) else _inside(folder, Path(place))
            for place in checkpoints
        ],
        "arguments": dict(arguments or {}),
        **({} if step_from is None else {"step_from": step_from}),
        **({} if entry is None else {"entry": entry}),
        **({"drop": list(drop)} if drop else {}),
    }
    content = json.dumps(record, indent=1).encode()
    path = folder / FILE
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def recall(folder: Path) -> Command | None:
    """Read it; None where there is none, or it cannot be read."""
    try:
        found = read_json(folder / FILE)
        places = tuple(
            place if hub.is_named(place) else str(folder / place) for place in found["checkpoints"]
        )
        return Command(
            str(found["task"]), places, dict(found["arguments"]),
            found.get("step_from"), found.get("entry"), tuple(found.get("drop", ())),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _inside(folder: Path, place: Path) -> str:
    """Name what lies in the run folder from there, so that both can be moved; else by its path."""
    place, folder = place.absolute(), folder.absolute()
    return str(place.relative_to(folder) if place.is_relative_to(folder) else place)


def _whole(task: str) -> str:
    """Make a file's path whole; modules, built-in tasks and models of a hub are found by name."""
    if hub.is_named(task):
        return _named(task)
    place, colon, attribute = task.rpartition(":")
    if not colon or not place.endswith(".py"):
        return task
    return f"{Path(place).absolute()}:{attribute}"


def _named(place: str) -> str:
    """Make the path of a model's folder whole; a name of the hub stays as it is."""
    name, revision = hub.split(place)
    if Path(name).is_dir():
        name = str(Path(name).absolute())
    return f"{hub.PREFIX}{name}" + ("" if revision is None else f"@{revision}")
