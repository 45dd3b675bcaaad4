"""Which checkpoints lie in one basin: barriers between them, and how alike they compute."""

from llc.trajectory.basins.curves import curve
from llc.trajectory.basins.lines import Barrier, barrier
from llc.trajectory.basins.measures import cka, procrustes
from llc.trajectory.basins.result import Basins
from llc.trajectory.basins.similarities import Similarity, similarity
from llc.trajectory.basins.survey import basins

__all__ = [
    "Barrier",
    "Basins",
    "Similarity",
    "barrier",
    "basins",
    "cka",
    "curve",
    "procrustes",
    "similarity",
]
