"""``rlct symmetries``: what a checkpoint's known symmetries leave as it is."""

import sys
from typing import TYPE_CHECKING

from llc.checkpoints import load_weights
from llc.cli.choices import execution_of, settings_of
from llc.cli.output import show
from llc.cli.tasks import arguments_of, load_task
from llc.trajectory.symmetries import check_symmetries

if TYPE_CHECKING:
    from llc.cli.options import Symmetries as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Load, check, print; 1 if a symmetry does not hold and ``--strict`` was given."""
    settings, execution = settings_of(options), execution_of(options)
    weights = load_weights(options.checkpoint, options.entry, options.drop)
    check = check_symmetries(
        load_task(options.task, arguments_of(options)).at(weights),
        settings=settings,
        strength=options.strength,
        seed=settings.seed,
        sample=not options.no_llc,
        count=not options.no_count,
        execution=execution,
        progress=True if sys.stderr.isatty() else None,
    )
    if options.json:
        record = {"checkpoint": options.checkpoint.name, **check.to_dict()}
        show(record)
    else:
        print(check)
    return 1 if options.strict and not check.passed else 0
