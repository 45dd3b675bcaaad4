"""``rlct transitions``: abrupt changes of the LLC in a run folder, or why there are none."""

from typing import TYPE_CHECKING

from llc.cli.output import show
from llc.errors import InputError
from llc.trajectory import Trajectory
from llc.transitions import find_transitions

if TYPE_CHECKING:
    from llc.cli.options import Transitions as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Load the run, look, print what was found, and write ``transitions.json`` beside it."""
    if options.resamples < 1:
        raise InputError(
            f"--resamples is {options.resamples}, expected a whole number of at least 1"
        )
    found = find_transitions(
        Trajectory.load(options.folder),
        resamples=options.resamples,
        seed=options.seed,
        keep_failed=options.keep_failed,
    )
    path = found.save(options.folder / "transitions.json")
    if options.json:
        show(found.to_dict())
    else:
        print(f"{found}\n\nwritten to {path}")
    return 0
