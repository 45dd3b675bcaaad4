"""``rlct refine``: the LLC of every part of a network at every checkpoint of a run."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from llc import plot
from llc.cli.choices import execution_of, settings_of
from llc.cli.output import show
from llc.cli.tasks import load_task
from llc.cli.tracing import workers_of
from llc.errors import InputError
from llc.refined import Refined, refine
from llc.trajectory.disk import writable

if TYPE_CHECKING:
    from llc.cli.options import Refine as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Trace part after part, write table and figure, print; 1 if ``--strict`` and a fail."""
    settings = settings_of(options)
    places = options.checkpoints
    if not places:
        raise InputError("no checkpoints given, expected a folder, files or a pattern in quotes")
    if settings.only is not None:
        raise InputError("--only is given, expected --parts: name it among them")
    result = refine(
        partial(load_task, options.task),
        places[0] if len(places) == 1 else list(places),
        None if options.parts is None else _parts(options.parts),
        out=options.out,
        settings=settings,
        execution=execution_of(options),
        workers=workers_of(options),
        step_from=options.step_from,
        entry=options.entry,
        drop=options.drop,
        progress=True,
    )
    with writable(options.out):
        figures = plot.save(plot.refined(result), options.out / "figures" / "refined")
    if options.json:
        show(_record(result))
    else:
        print(f"{result.name}: {len(result.parts)} parts, {len(result.steps)} checkpoints")
        print("\n".join("  " + line for line in str(result.settings).splitlines()
                        if not line.startswith("only ")))  # fmt: skip
        print(f"\n{result.table()}\n")
        for part, trajectory in result.trajectories.items():
            for step, why in trajectory.skipped.items():
                print(f"  ! {part}, step {step} skipped: {why}")
        print(f"table    {options.out / 'refined.csv'}")
        print("figures  " + "\n         ".join(map(str, figures)))
    every = [p for t in result.trajectories.values() for p in t.points]
    failed = any(point.estimate.verdict.status == "fail" for point in every)
    skipped = any(t.skipped for t in result.trajectories.values())
    return 1 if options.strict and (failed or skipped) else 0


def _parts(words: tuple[str, ...]) -> dict[str, Any]:
    """Read parts: a word, or NAME=WORD+WORD."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        if not equals or "@" in name:
            name, rest = word, word
        name = name.strip()
        only = [piece.strip() for piece in rest.split("+")] if equals and name != word else [rest]
        if not name or not all(only):
            raise InputError(
                f"--parts holds {word!r}, expected a word as after --only, or NAME=WORD+WORD"
            )
        if name in found:
            raise InputError(f"--parts names {name!r} twice: name each once")
        found[name] = None if only == ["all"] else only
    return found


def _record(result: Refined) -> dict[str, Any]:
    parts = {}
    for part, trajectory in result.trajectories.items():
        points = []
        for point in trajectory.points:
            estimate = point.estimate.to_dict()
            del estimate["settings"]
            numbers = {k: v if math.isfinite(v) else None for k, v in point.metadata.items()}
            points.append({"step": point.step, **estimate, "readings": numbers})
        parts[part] = {
            "settings": trajectory.settings.to_dict(),
            "points": points,
            "skipped": {str(step): why for step, why in trajectory.skipped.items()},
        }
    return {"task": result.name, "parts": parts}
