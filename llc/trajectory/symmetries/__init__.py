"""Known symmetries of a network, held against its outputs, loss, LLC and flat directions."""

from llc.trajectory.symmetries.check import check_symmetries
from llc.trajectory.symmetries.count import Directions, count_directions
from llc.trajectory.symmetries.result import Invariance, SymmetryCheck

__all__ = [
    "Directions",
    "Invariance",
    "SymmetryCheck",
    "check_symmetries",
    "count_directions",
]
