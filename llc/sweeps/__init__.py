"""What an LLC depends on, and where it breaks: short runs on a grid.

No cell is dropped: chains that left for infinity, negative numbers and doubtful ones are results.
"""

from llc.sweeps.grid import Cell, Sweep
from llc.sweeps.run import choose, sweep, with_sampler

__all__ = ["Cell", "Sweep", "choose", "sweep", "with_sampler"]
