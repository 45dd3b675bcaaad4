"""``rlct basins``: which checkpoints of a run lie in one basin; table, JSON, figures."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llc import plot
from llc.cli.commands import Command, recall
from llc.cli.output import show
from llc.cli.tasks import load_task
from llc.errors import InputError, some
from llc.files import check_writable
from llc.language import hub
from llc.task import Task
from llc.trajectory.basins import Basins, basins
from llc.trajectory.basins.survey import Progress
from llc.trajectory.disk import writable
from llc.trajectory.record import refuse_drawn
from llc.trajectory.sameness import Blueprint
from llc.trajectory.sources import paths_of
from llc.trajectory.store import RunFolder

if TYPE_CHECKING:
    from llc.cli.options import Basins as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Compare, print what was found, and write it into the run folder or ``--out``."""
    folder = Path(options.run)
    known = recall(folder) if folder.is_dir() else None
    out = _out(options, folder)
    task = _task(options, known)
    with _bar(task.label) as progress:
        result = basins(
            task,
            _checkpoints(options, folder, known),
            count=options.count,
            steps=options.steps,
            step_from=options.step_from or (known.step_from if known else None),
            align=not options.no_align,
            curves=options.curves,
            layers=options.layers,
            data=_data(options, task),
            out=out,
            points=options.points,
            bends=options.bends,
            budget=options.budget,
            batch_size=options.batch_size,
            examples=options.examples,
            seed=options.seed,
            device=options.device,
            progress=progress,
            entry=options.entry if known is None or options.entry else known.entry,
            drop=options.drop or (() if known is None else known.drop),
        )
    if options.data is not None:
        result = replace(result, settings={**result.settings, "data": options.data})
    with writable(out):
        files = [result.save(out / "basins.json"), result.to_csv(out / "basins.csv")]
        figures = plot.save(plot.basins(result), out / "figures" / "basins")
        figures += plot.save(plot.barriers(result), out / "figures" / "barriers")
    if options.json:
        show(result.to_dict())
    else:
        print(_text(result, files, figures))
    return 0


def _out(options: "Options", folder: Path) -> Path:
    if options.out is None and not folder.is_dir():
        paths_of(options.run)  # which says so if there is nothing
        raise InputError(f"{options.run} is no folder: say as --out where results go")
    out = folder if options.out is None else options.out
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file, expected a folder, which may not exist yet")
    check_writable(out)
    return out


def _task(options: "Options", known: Command | None) -> Task:
    if options.task is not None:
        return load_task(options.task)
    if known is None:
        raise InputError(
            f"{options.run} does not say which task it is of: give it as --task, for instance "
            "--task my_task.py:task"
        )
    blueprint = Blueprint(partial(load_task, known.task, known.arguments))
    folder = RunFolder(options.run)
    if (then := folder.witness()) is not None:
        refuse_drawn(folder, then, blueprint)
    return blueprint()


def _checkpoints(options: "Options", folder: Path, known: Command | None) -> Any:
    """What the run folder was made of, if that is still there; else what lies in it."""
    if known is not None:
        places = known.checkpoints
        if all(
            any(mark in place for mark in "*?[") or hub.is_named(place) or Path(place).exists()
            for place in places
        ):
            return places[0] if len(places) == 1 else list(places)
    inside = folder / "checkpoints"
    if inside.is_dir():
        return inside
    if known is not None or (folder / "run.json").exists():
        where = f", which were {some(known.checkpoints, 2)}" if known else ""
        raise InputError(
            f"the checkpoints of {options.run} are not to be found{where}: give their folder or "
            "pattern in the place of RUN, with --task, and the run folder as --out"
        )
    return options.run


def _data(options: "Options", task: Task) -> Any:
    if options.data is None:
        return None
    sets = {name: what for name, what in (task.readings or {}).items() if not callable(what)}
    if options.data not in sets:
        raise InputError(
            f"--data is {options.data!r}, expected a data set among the task's readings: "
            f"{some(sets, 6) or 'it has none, give llc.Task(..., readings={...})'}"
        )
    return sets[options.data]


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    from tqdm import tqdm

    with tqdm(desc=name, unit="pair", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _text(result: Basins, files: list[Path], figures: list[Path]) -> str:
    return "\n".join(
        [str(result), "files     " + ", ".join(map(str, files)),
         "figures   " + ", ".join(map(str, figures))]
    )  # fmt: skip
