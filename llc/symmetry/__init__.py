"""Known symmetries of networks: moves of weights that leave outputs or loss as they are."""

from llc.symmetry.align import align, distance
from llc.symmetry.base import Moved, Part, Symmetry
from llc.symmetry.find import find_symmetries
from llc.symmetry.heads import Heads
from llc.symmetry.legs import Leg
from llc.symmetry.offset import Offset
from llc.symmetry.units import ACTIVATIONS, Units

__all__ = [
    "ACTIVATIONS",
    "Heads",
    "Leg",
    "Moved",
    "Offset",
    "Part",
    "Symmetry",
    "Units",
    "align",
    "distance",
    "find_symmetries",
]
