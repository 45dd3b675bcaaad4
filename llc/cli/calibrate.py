"""``rlct calibrate``: settings for a checkpoint with their reasons; with ``--sweep`` a grid too."""

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from llc import plot
from llc.calibration import Resolved
from llc.checkpoints import load_weights
from llc.cli.choices import execution_of, explained, settings_of
from llc.cli.output import show
from llc.cli.tasks import arguments_of, load_task
from llc.errors import InputError
from llc.files import check_writable
from llc.progress import Bar
from llc.sweeps import Cell, Sweep, choose, sweep, with_sampler
from llc.sweeps.run import check_grid

if TYPE_CHECKING:
    from llc.cli.options import Calibrate as Options
    from llc.settings import Settings
    from llc.task import Task

__all__ = ["run"]

GRID = ("step_sizes", "gammas", "n_betas", "cell_budget")


def run(options: "Options") -> int:
    """Choose, print, save; with ``--sweep`` run the grid around what was chosen."""
    started = time.perf_counter()
    _check(options)
    asked = settings_of(options)
    if options.sweep:
        asked = with_sampler(asked)
    execution = execution_of(options)
    weights = load_weights(options.checkpoint, options.entry, options.drop)
    task = load_task(options.task, arguments_of(options)).at(weights)
    with Bar(task.label) as report:
        found = choose(task, asked, options.out if options.sweep else None, execution, report)
    chosen = explained(found.settings, asked)
    seconds = time.perf_counter() - started
    if options.out is not None:
        chosen.save(options.out / "settings.json" if options.sweep else options.out)
    record: dict[str, Any] = {
        "checkpoint": options.checkpoint.name,
        "settings": chosen.to_dict(),
        "gradient_evaluations": found.evaluations,
        "sound": found.sound,
        "seconds": seconds,
    }
    if not options.json:
        print(_text(options, chosen, found, seconds))
    if options.sweep:
        grid = _grid(options, task, asked, chosen)
        record["sweep"] = grid.to_dict()
        if not options.json:
            print(f"\n{grid.table()}")
    if options.json:
        show(record)
    return 0


def _check(options: "Options") -> None:
    """Refuse flags that do not go together, before anything is computed."""
    given = [name for name in GRID if getattr(options, name) is not None]
    if given and not options.sweep:
        raise InputError(
            f"--{given[0].replace('_', '-')} is given without --sweep, expected both: add --sweep, "
            "or drop it"
        )
    check_grid(options.step_sizes, options.gammas, options.n_betas, options.cell_budget)
    out = options.out
    if out is None:
        return
    if options.sweep and (out.is_file() or out.suffix == ".json"):
        raise InputError(
            f"--out is {out}, a file; with --sweep expected a folder, which may not exist yet"
        )
    if not options.sweep and out.is_dir():
        raise InputError(f"--out is {out}, a folder; expected a file such as settings.json")
    check_writable(out if options.sweep else out.parent)


def _text(options: "Options", chosen: "Settings", found: Resolved, seconds: float) -> str:
    """One line a setting with its reason, then what it cost and what it will cost."""
    kept = options.out / "settings.json" if options.sweep and options.out else options.out
    draws, burn_in = chosen.draws or 0, chosen.burn_in or 0
    steps = chosen.chains * (draws + burn_in)
    where = f" --settings {kept}" if kept is not None else ", with these settings,"
    lines = [
        str(chosen),
        f"cost         {found.evaluations:,} gradients, {seconds:.1f} s to choose; rlct estimate"
        f"{where} takes {chosen.chains} × ({burn_in} + {draws}) = {steps:,} steps",
    ]
    if not found.sound:
        lines.append(
            "  ! no pilot run settled: take what is chosen with care, and give more budget"
        )
    if kept is not None:
        lines.append(f"settings     {kept}")
    return "\n".join(lines)


def _grid(options: "Options", task: "Task", asked: "Settings", chosen: "Settings") -> Sweep:
    """Run the grid; a folder given as ``--out`` gets the table, the cells and the figure."""
    # A frozen length is for estimates; cells are short unless a length was asked for.
    length = asked if options.settings is None else options
    centre = replace(chosen, draws=length.draws, burn_in=length.burn_in)
    with tqdm(unit="cell", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

        def progress(cell: Cell, done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.set_postfix_str(f"LLC {cell}")

        result = sweep(
            task,
            options.step_sizes,
            options.gammas,
            options.n_betas,
            settings=centre,
            out=options.out,
            cell_budget=options.cell_budget,
            execution=execution_of(options),
            progress=progress,
        )
    if options.out is not None:
        result.save(options.out / "sweep.json")
        result.to_csv(options.out / "sweep.csv")
        plot.save(plot.sweep(result), options.out / "sweep")
    return result
