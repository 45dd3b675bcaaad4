"""A run folder as figures and page need it: trajectory, and its transitions if there can be any."""

from pathlib import Path

from llc.errors import InputError
from llc.files import read_json
from llc.trajectory import Trajectory
from llc.transitions import Transitions, find_transitions

__all__ = ["transitions_of", "versions_of"]


def transitions_of(folder: Path, result: Trajectory) -> Transitions | None:
    """Return what ``rlct transitions`` left in the folder, or look now.

    None where the run holds too few checkpoints. What was found before the run went on is not
    taken for an answer about the whole.
    """
    try:
        kept = Transitions.load(folder / "transitions.json")
    except InputError:
        kept = None
    if kept is not None:
        seen = {*map(int, kept.curve.get("step", [])), *kept.left_out}
        if seen == {point.step for point in result.points}:
            return kept
    try:
        return find_transitions(result)
    except InputError:
        return None


def versions_of(folder: Path) -> dict[str, str] | None:
    """Return the versions that computed a run, or None where it does not say."""
    try:
        found = read_json(folder / "run.json")["versions"]
        return {str(name): str(version) for name, version in found.items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
