"""``rlct transitions``: abrupt changes of the LLC in a run folder, or why there are none."""

import json
from typing import TYPE_CHECKING

from llc.errors import InputError
from llc.estimation.verdict import Reason
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
    traced = Trajectory.load(options.folder)
    found = find_transitions(
        traced,
        resamples=options.resamples,
        seed=options.seed,
        keep_failed=options.keep_failed,
    )
    path = found.save(options.folder / "transitions.json")
    if options.json:
        print(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        notes = [*_about_the_prior(traced), *_about_minima(traced)]
        print("\n".join([str(found), *notes, "", f"written to {path}"]))
    return 0


def _about_minima(run: Trajectory) -> list[str]:
    """Resampled chains cannot see a bias: jumps beside such points may be nothing else."""
    off = [p for p in run.points if Reason.NOT_A_MINIMUM in p.estimate.verdict.reasons]
    if not off or run.settings.behavioural:
        return []
    return [
        f"  {len(off)} of {len(run.points)} checkpoints are no minimum of the loss (steps "
        f"{off[0].step:,} to {off[-1].step:,}): their LLCs are too low, and a jump beside them may "
        "be that alone; trace with --behavioural"
    ]


def _about_the_prior(run: Trajectory) -> list[str]:
    """A curve whose points are mostly the prior's shows what the null does."""
    mostly = [p for p in run.points if Reason.PRIOR_DOMINATED in p.estimate.verdict.reasons]
    if not mostly:
        return []
    return [
        f"  {len(mostly)} of {len(run.points)} checkpoints are mostly flatness at radius 1/√gamma "
        f"(steps {mostly[0].step:,} to {mostly[-1].step:,}): there the curve may be the null's own"
    ]
